"""What a hospital's node needs: keys, roster, rules, vault, ledger, quarantine, and the way to the coordinator.

Functions of plain values; ``hospital_facts`` reads them. For the hospital's own eyes: counts are true counts, and
nothing of it is sent.
"""

from collections.abc import Callable, Sequence
from typing import Final

from sonoshare_client.courier.way import Step
from sonoshare_client.node.policy import Policy
from sonoshare_client.own_eyes.fit import VaultState
from sonoshare_client.own_eyes.key_overview import KeyLine
from sonoshare_client.own_eyes.overview import LedgerOverview
from sonoshare_deploy.preflight.finding import Finding

Typed = Callable[..., str]
"""Gives a command of this program as it is typed here: ``typed("hospital", "twins")``."""
LITTLE_LEFT: Final = 0.1


def keys(lines: Sequence[KeyLine]) -> Finding:
    """Whether the keys are there, and the pinned roster names them."""
    names = {line.name for line in lines}
    if "vault" not in names:
        return Finding(
            "keys", "fail", "the vault's key is not where home.toml says", "bring it back, or correct home.toml"
        )
    unknown = [line.name for line in lines if line.rostered is False and not line.name.startswith("next")]
    if unknown:
        return Finding(
            "keys",
            "fail",
            f"the roster names another {' and '.join(unknown)} key",
            "ask the coordinator for its newest",
        )
    changing = [line.name for line in lines if line.name.startswith("next")]
    if changing:
        return Finding("keys", "warn", f"{', '.join(changing)} key: a change is under way", "finish it: docs/keys.md")
    return Finding.ok("keys", ", ".join(f"{line.name} {line.fingerprint}".strip() for line in lines) + "; none expires")


def vault(state: VaultState, policy: Policy, typed: Typed) -> Finding:
    """What the vault holds against the rules on who takes part."""
    found = f"{state.trained} patients trained, {state.held_out} held out"
    if state.trained + state.held_out + state.held_back == 0:
        return Finding("vault", "warn", "empty", typed("hospital", "ingest", "FOLDER"))
    blocking = VaultState(state.trained, state.held_out, 0, 0, 0).advice(policy, policy.budget.delta)
    if blocking:
        return Finding("vault", "fail", f"{found}: {blocking[0]}", typed("hospital", "ingest", "FOLDER"))
    if waiting := state.undecided():
        return Finding("vault", "warn", f"{found}: {waiting[0]}", typed("hospital", "twins"))
    return Finding.ok("vault", f"{found}; the rules ask for {_asked(policy)}")


def _asked(policy: Policy) -> str:
    return f"{policy.cohort.minimum_trained} and {policy.cohort.minimum_held_out}"


def declared(state: VaultState, policy: Policy) -> Finding:
    """Whether the number that is declared in public is near the truth; plans divide by it."""
    nominal = policy.cohort.nominal
    found = f"{nominal} trained patients declared, {state.trained} in the vault"
    if state.trained and not nominal / 2 <= state.trained <= nominal * 2:
        return Finding("declared", "warn", found, "set cohort.nominal in policy.toml to a round number near the truth")
    return Finding.ok("declared", found)


def quarantine(counts: dict[str, int | None], typed: Typed) -> Finding:
    """What waits for a person, and what older rules took in."""
    waiting, older = counts["quarantined"], counts["older_rules"]
    if waiting is None:
        return Finding.ok("quarantine", "nothing was taken in yet")
    if waiting:
        return Finding("quarantine", "warn", f"{waiting} wait for a person", typed("hospital", "quarantine", "list"))
    if older:
        found = f"{older} pictures were taken in under older rules"
        return Finding("quarantine", "warn", found, typed("hospital", "ingest", "--again"))
    if counts["other_policy"]:
        return Finding(
            "quarantine",
            "warn",
            f"{counts['other_policy']} pictures are of other [intake] lines of policy.toml",
            typed("hospital", "ingest", "FOLDER"),
        )
    return Finding.ok("quarantine", "nothing waits")


def ledger(overview: LedgerOverview, typed: Typed) -> Finding:
    """Whether the record is whole, and what is left of the budget."""
    if overview.spent is None:
        return Finding("ledger", "fail", overview.broken, typed("hospital", "ledger"))
    spent, most = overview.spent.epsilon, overview.budget.epsilon
    found = f"intact; at most epsilon {spent:.3f} of {most:g} spent"
    if most - spent < LITTLE_LEFT * most:
        return Finding("ledger", "warn", found, "little is left for another study: docs/privacy-plain.md")
    return Finding.ok("ledger", found)


def evidence(digest: str | None) -> Finding:
    """Whether misconduct that was seen stops this node."""
    if digest is not None:
        return Finding(
            "evidence", "fail", f"evidence of misconduct ({digest[:12]}) stops this node", "look at it: docs/witness.md"
        )
    return Finding.ok("evidence", "none of misconduct")


def port_in(place: str | None, *, free: bool, receiving: bool) -> Finding:
    """The one port that a node may listen on, for a PACS that sends; None where the rules name none."""
    if place is None:
        return Finding.ok("ports in", "none is needed")
    if receiving:
        return Finding.ok("ports in", f"{place}: the receiver runs")
    if not free:
        return Finding("ports in", "fail", f"{place} is busy", "end what listens there, or set intake.sources.port")
    return Finding.ok("ports in", f"{place} is free for the receiver")


def way(steps: Sequence[Step]) -> list[Finding]:
    """The steps to the coordinator, a finding each."""
    return [
        Finding(f"way: {step.name}", "ok" if step.ok else "fail", step.found, "" if step.ok else step.remedy)
        for step in steps
    ]


def no_way(typed: Typed) -> Finding:
    """A node that no coordinator has invited yet."""
    return Finding("way", "warn", "no coordinator is known yet", typed("hospital", "join", "INVITATION"))
