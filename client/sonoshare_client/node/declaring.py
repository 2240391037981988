"""A node that was made anew charges what a ledger that is lost could have spent on the same patients.

**Example.** The disk of *west* breaks, and the newest backup is of before round 3. Its restored ledger lacks charges
that others have witnessed, so it never trains again; and a second ledger under the same key would be a fork, which is
proved against the hospital. So the hospital makes a new node, *west-2*, and declares there what *west* has spent.

What is missing from the old ledger nobody can read any more. But an agent acts only on the first plan that the log
holds for a study, and gives away the result of each round, vote and candidate of it once. So whatever left in a study
is covered by the whole plan: its training, its votes and every candidate that may be audited. Each study that the old
node's copy of the log holds, or the new node's, is charged with at least that where its plan names the hospital, and
with at least what the old ledger has: mechanism by mechanism, so that it is no less whatever it is composed with.
What the old ledger had declared itself, for a node that was lost before it, comes on top; so do stand-alone audits.

Not promised: anything about studies that began after both copies of the log end. Start the restored node once before,
so that the coordinator shows it the newest log; it refuses to train, which is right (``Declaration.behind``). Declared
again with a longer log, only what is new is charged. Nor stand-alone audits that the old ledger lacks: no log shows
them, and whoever ran them says what they cost (``audits``). Nor what a node answered twice because it went on from an
old backup before it was shown the log: two charges at most (``protocol.log_index.LogIndex.must_have_seen``). Nor what
a node declared whose ledger is lost back to before it: declare every node of the line.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from sonoshare_client.node.approvals import proposals
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.node.plan_check import STAND_ALONE, study_events
from sonoshare_privacy.accounting import Event, at_least_both, less, merged
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import InputError, LedgerError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.charge import Charge, PureDP
from sonoshare_shared.protocol.log_index import plan_entry, read_entry

_DECLARED: Final = "declared: spent under the ledger with head "


@dataclass(frozen=True)
class Declaration:
    """What a lost ledger is taken to have spent.

    Attributes:
        head: the newest entry of it that is left.
        log_entries: how far the longest copy of the log goes.
        behind: whether the log shows that entries of the ledger are missing. Where it does not, the log may have gone
            on too: it proves nothing of studies that began since.
        charges: one for each study.
        whole: studies that are charged with their whole plan.
    """

    head: str
    log_entries: int
    behind: bool
    charges: tuple[ChargeRequest, ...]
    whole: tuple[str, ...]


def declaration(
    lost: NodeHome, plans: Iterable[StudyPlan] = (), *, new: NodeHome | None = None, audits: Sequence[float] = ()
) -> Declaration:
    """Bound what a node has spent, by what is left of it and the log.

    Args:
        lost: the node whose ledger is behind; its folder as it was restored.
        plans: of studies that its folder does not hold any more; the log says which plan is meant.
        new: the node that takes its place; what its copy of the log shows counts too.
        audits: epsilons of stand-alone audits (``sonoshare audit --home``) that the old ledger lacks.

    Raises:
        LedgerError: the old ledger is not intact.
        IntegrityError: a copy of the log is damaged.
        InputError: the plan of a logged study is not there, or the log does not go as far as the ledger.
    """
    homes = [lost] if new is None else [lost, new]
    logs = [LogCopy.open(home.state_path) for home in homes]
    with closing(open_ledger(lost, lambda: datetime.now(UTC))) as ledger:
        ledger.verify()
        head, entries = ledger.head(), [signed.charge for signed in ledger.entries()]
        behind = _is_behind(ledger, logs, lost)
    logged = _logged(logs)
    _require_log_of(entries, {study for study, _ in logged})
    named = [plan for plan in _plans_of(logged, homes, plans) if lost.hospital in plan.cohorts]
    studies = dict.fromkeys(
        (*(charge.study for charge in entries if charge.kind == "reserved"), *(p.study for p in named))
    )
    if audits:
        studies[STAND_ALONE] = None
    beside: list[Event] = [PureDP(each) for each in audits]
    charges = tuple(
        _charge_for(lost, study, f"{_DECLARED}{head}", entries=entries, plans=named, audits=beside) for study in studies
    )
    return Declaration(head, max(log.size for log in logs), behind, charges, tuple(plan.study for plan in named))


def declare(ledger: Ledger, said: Declaration) -> None:
    """Charge a declaration to the ledger of the new node: what of it was not declared there before.

    Raises:
        InputError: all of it was declared here before, there is nothing to declare, or this ledger holds the lost one.
        PolicyError: the new node's rules have no delta for it; nothing was charged.
        LedgerError: the ledger is not intact or cannot be written.
    """
    entries = [signed.charge for signed in ledger.entries()]
    if said.head in {charge.digest() for charge in entries}:
        raise InputError("both folders hold the same ledger", remedy="make the new node with its own id first")
    if not said.charges:
        raise InputError(
            "nothing was spent under that ledger, and no logged study names its hospital",
            remedy="--home is the new node and --lost the old one: see that they are not exchanged",
        )
    before = [charge for charge in entries if charge.kind == "reserved" and charge.purpose == f"{_DECLARED}{said.head}"]
    left = [
        replace(one, events=events)
        for one in said.charges
        if (events := less(one.events, [event for c in before if c.study == one.study for event in c.events]))
    ]
    if before and not left:
        raise InputError("what that ledger spent was declared here before", remedy="see: sonoshare hospital ledger")
    ledger.declare(left)


def _charge_for(
    lost: NodeHome,
    study: str,
    purpose: str,
    *,
    entries: Iterable[Charge],
    plans: Iterable[StudyPlan],
    audits: list[Event],
) -> ChargeRequest:
    """What a study is charged: the larger of ledger and plan, and on top what no plan covers."""
    known = [charge for charge in entries if charge.kind == "reserved" and charge.study == study]
    of_plans = [plan for plan in plans if plan.study == study]
    own: list[Event] = []
    on_top = list(audits) if study == STAND_ALONE else []
    for charge in known:
        outside = study == STAND_ALONE or charge.purpose.startswith(_DECLARED)
        (on_top if outside else own).extend(charge.events)
    planned = [event for plan in of_plans for event in study_events(plan)]
    rules = lost.policy()
    # Each pair was in order where it was charged; the largest delta and the largest cohort of several may not be.
    pairs = [(charge.delta, charge.nominal_cohort) for charge in known]
    pairs += [(plan.mechanism.delta, plan.cohorts[lost.hospital]) for plan in of_plans]
    delta, nominal = max(pairs, default=(rules.budget.delta, rules.cohort.nominal))
    return ChargeRequest(study, purpose, merged([*on_top, *at_least_both(own, planned)]), delta, nominal)


def _is_behind(ledger: Ledger, logs: Iterable[LogCopy], lost: NodeHome) -> bool:
    key = lost.identity().public
    try:
        ledger.require_not_older_than(logged.head.head for log in logs for logged in log.index.heads(key))
    except LedgerError:
        return True
    return False


def _logged(logs: Iterable[LogCopy]) -> dict[tuple[str, str], None]:
    """Study and digest of the first plan that each copy of the log holds for a study: no agent acts on a later one.

    Only an entry that is written as such entries are: to an agent, the number 2026 is another study than "2026".
    """
    found: dict[tuple[str, str], None] = {}
    for log in logs:
        first: dict[str, str] = {}
        for line in log.entries:
            entry = read_entry(line)
            study, digest = str(entry.get("study")), str(entry.get("digest"))
            if entry == plan_entry(study, digest):
                first.setdefault(study, digest)
        found.update(dict.fromkeys(first.items()))
    return found


def _require_log_of(entries: Iterable[Charge], logged: set[str]) -> None:
    """The log shows a study before it is charged: one that it does not show says that the log ends too early."""
    own = {c.study for c in entries if c.kind == "reserved" and not c.purpose.startswith(_DECLARED)}
    if unseen := sorted(own - logged - {STAND_ALONE}):
        raise InputError(
            f"the old ledger was charged for studies that the log here does not show: {', '.join(unseen)}",
            remedy="start the restored node once, so that it is shown the newest log; then declare again",
        )


def _plans_of(
    logged: Iterable[tuple[str, str]], homes: Iterable[NodeHome], plans: Iterable[StudyPlan]
) -> list[StudyPlan]:
    """The logged plans, by their digests, whoever brings them."""
    kept = (StudyPlan.from_bytes(envelope.decoded()) for home in homes for envelope in proposals(home.state))
    known = {plan.digest(): plan for plan in (*kept, *plans)}
    missing = sorted({study for study, digest in logged if digest not in known})
    if missing:
        raise InputError(
            f"the log shows studies whose plan is not here: {', '.join(missing)}",
            remedy="ask the coordinator for each plan.json and name it with --plan",
        )
    return [known[digest] for _, digest in logged]
