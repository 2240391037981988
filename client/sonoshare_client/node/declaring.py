"""A node that was made anew charges what a ledger that is lost could have spent on the same patients.

**Example.** The disk of *west* breaks, and the newest backup is of before round 3. Its restored ledger lacks charges
that others have witnessed, so it never trains again; and a second ledger under the same key would be a fork, which is
proved against the hospital. So the hospital makes a new node, *west-2*, and declares there what *west* has spent.

What is missing from the old ledger nobody can read any more. But an agent acts only on a plan that stands in the log,
and answers each round, vote and candidate of a plan once. So whatever it released in a study is bounded by the whole
plan: its training, its votes and every candidate that may be audited. Each study that the old node's copy of the log
holds is therefore charged in full where its plan names the hospital, or as the old ledger has it where that is more.

Not promised: anything about studies that began after the old node's copy of the log ends. Start the restored node once
before, so that the coordinator shows it the newest log; it refuses to train, which is right.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sonoshare_client.node.approvals import proposals
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.node.plan_check import study_events
from sonoshare_privacy.accounting import epsilon, merged
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.charge import Charge
from sonoshare_shared.protocol.log_index import PLAN_ENTRY, read_entry

_DECLARED: Final = "declared: spent under the ledger with head "


@dataclass(frozen=True)
class Declaration:
    """What a lost ledger is taken to have spent.

    Attributes:
        head: the newest entry of it that is left.
        log_entries: how far the old node's copy of the log goes.
        charges: one for each study.
        whole: studies that are charged as their whole plan.
    """

    head: str
    log_entries: int
    charges: tuple[ChargeRequest, ...]
    whole: tuple[str, ...]


def declaration(lost: NodeHome, plans: Iterable[StudyPlan] = ()) -> Declaration:
    """Bound what a node has spent, by what is left of it and the log.

    Args:
        lost: the node whose ledger is behind; its folder as it was restored.
        plans: of studies that its folder does not hold any more; the log says which plan is meant.

    Raises:
        LedgerError: the old ledger is not intact.
        IntegrityError: the old copy of the log is damaged.
        InputError: the plan of a logged study is not there.
    """
    log, delta = LogCopy.open(lost.state_path), lost.policy().budget.delta
    with closing(open_ledger(lost, lambda: datetime.now(UTC))) as ledger:
        ledger.verify()
        head, entries = ledger.head(), [signed.charge for signed in ledger.entries()]
    named = {plan.study: plan for plan in _logged_plans(lost, log, plans) if lost.hospital in plan.cohorts}
    charged = _by_study(entries)
    requests, whole = [], []
    for study in dict.fromkeys((*charged, *named)):
        known, plan = charged.get(study, ()), named.get(study)
        events = merged([event for charge in known for event in charge.events])
        if plan is not None and (not events or epsilon(study_events(plan), delta) >= epsilon(events, delta)):
            events = merged(study_events(plan))
            whole.append(study)
        requests.append(
            ChargeRequest(
                study,
                f"{_DECLARED}{head}",
                events,
                max([charge.delta for charge in known] + ([] if plan is None else [plan.mechanism.delta])),
                known[-1].nominal_cohort if plan is None else plan.cohorts[lost.hospital],
            )
        )
    return Declaration(head, log.size, tuple(requests), tuple(whole))


def declare(ledger: Ledger, said: Declaration) -> None:
    """Charge a declaration to the ledger of the new node, once.

    Raises:
        InputError: this was declared here before, or it is the lost ledger itself.
        PolicyError: the new node's rules have no delta for it; nothing was charged.
        LedgerError: the ledger is not intact or cannot be written.
    """
    entries = [signed.charge for signed in ledger.entries()]
    if ledger.head() == said.head:
        raise InputError("both folders hold the same ledger", remedy="make the new node with its own id first")
    if any(charge.purpose.startswith(f"{_DECLARED}{said.head}") for charge in entries):
        raise InputError("what that ledger spent was declared here before", remedy="see: sonoshare hospital ledger")
    ledger.declare(said.charges)


def _by_study(entries: Iterable[Charge]) -> dict[str, tuple[Charge, ...]]:
    found: dict[str, tuple[Charge, ...]] = {}
    for charge in entries:
        if charge.kind == "reserved":
            found[charge.study] = (*found.get(charge.study, ()), charge)
    return found


def _logged_plans(lost: NodeHome, log: LogCopy, plans: Iterable[StudyPlan]) -> Iterator[StudyPlan]:
    """The plan of every study in the log, by its digest there, whoever brings it."""
    kept = (StudyPlan.from_bytes(envelope.decoded()) for envelope in proposals(lost.state))
    known = {plan.digest(): plan for plan in (*kept, *plans)}
    entries = (read_entry(line) for line in log.entries)
    logged = {str(entry["study"]): str(entry["digest"]) for entry in entries if entry.get("kind") == PLAN_ENTRY}
    missing = sorted(study for study, digest in logged.items() if digest not in known)
    if missing:
        raise InputError(
            f"the log shows studies whose plan is not here: {', '.join(missing)}",
            remedy="ask the coordinator for each plan.json and name it with --plan",
        )
    return (known[digest] for digest in logged.values())
