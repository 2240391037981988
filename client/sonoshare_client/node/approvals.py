"""What persons at this hospital decided about studies, and which studies were proposed to it.

    approvals/<study>.json               {"study", "plan", "decision", "reason", "when"}: written by a person's command
    state/proposals/<study>.dsse.json    the newest signed plan of each study: written by the agent

A decision names one plan by its digest. It is written by ``sonoshare hospital approve`` and ``refuse`` alone: the agent
only reads it, no message of the protocol can cause it to be written, and the folder is its owner's alone, so that the
courier's user cannot write it either.

| rule ``federation.approve`` | no decision | approved | refused | another plan of the study was decided on |
|---|---|---|---|---|
| ``rules`` | accepted | accepted | refused | accepted, or waiting where that one was refused |
| ``person`` | waiting | accepted | refused | waiting |
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from sonoshare_client.node.paths import NodePaths, StatePaths
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError, PolicyError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.proposal import MOST_WORDS, Decision
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.state import read_state, write_state

Approve = Literal["rules", "person"]
MOST_PROPOSALS: Final = 1000
MOST_PROPOSAL_BYTES: Final = 1 << 16
"""A server that would fill the hospital's disk with plans is refused here."""
_SUFFIX: Final = ".dsse.json"


@dataclass(frozen=True)
class Decided:
    """A person's decision.

    Attributes:
        study: about which study.
        plan: digest of the plan that the person saw.
        decision: what was decided.
        reason: why it was refused; it is told to the coordinator.
        when: when.
    """

    study: str
    plan: str
    decision: Literal["approved", "refused"]
    reason: str
    when: datetime


def decide(home: NodePaths, plan: StudyPlan, decision: Literal["approved", "refused"], reason: str = "") -> Decided:
    """Write a person's decision down; it counts from the next request on.

    Raises:
        InputError: the reason is longer than an answer can be.
    """
    if len(reason) > MOST_WORDS:
        raise InputError(f"a reason has at most {MOST_WORDS} characters", remedy="say it shorter")
    decided = Decided(plan.study, plan.digest(), decision, reason, datetime.now(UTC))
    home.approvals_path.mkdir(mode=0o700, exist_ok=True)
    write_state(_place(home, plan.study), decided)
    return decided


def decision_about(home: NodePaths, study: str) -> Decided | None:
    """The newest decision about a study.

    Raises:
        IntegrityError: it cannot be read; then nothing is done for the study.
    """
    try:
        return read_state(_place(home, study), Decided, remedy="decide again: sonoshare hospital approve")
    except FileNotFoundError:
        return None


def answer_by_person(home: NodePaths, plan: StudyPlan, approve: Approve) -> Decision:
    """Whether a person lets a plan be, by the table above."""
    decided = decision_about(home, plan.study)
    if decided is not None and decided.plan == plan.digest():
        return "accepted" if decided.decision == "approved" else "refused"
    refused_before = decided is not None and decided.decision == "refused"
    return "waiting" if approve == "person" or refused_before else "accepted"


def require_approved(home: NodePaths, plan: StudyPlan, approve: Approve) -> None:
    """Check that no person has to decide first, and that none has refused.

    Raises:
        PolicyError: one has.
    """
    answer = answer_by_person(home, plan, approve)
    if answer == "waiting":
        raise PolicyError(
            f"study {plan.study} waits for approval at the hospital",
            remedy="a person there decides: sonoshare hospital approve; then run the study again",
        )
    if answer == "refused":
        require_not_refused(home, plan.study)


def require_not_refused(home: NodePaths, study: str) -> None:
    """Check that a person has not refused a study, or withdrawn from it.

    Raises:
        PolicyError: one has.
    """
    decided = decision_about(home, study)
    if decided is not None and decided.decision == "refused":
        raise PolicyError(
            f"a person at the hospital refused study {study}: {decided.reason}", remedy="ask the hospital"
        )


def keep_proposal(state: StatePaths, study: str, plan: Envelope) -> None:
    """Keep a study's newest plan, for persons to look at; its signature was checked.

    Raises:
        PolicyError: it is too long, or there are too many.
    """
    data, place = plan.to_bytes(), _proposal(state, study)
    if len(data) > MOST_PROPOSAL_BYTES:
        raise PolicyError("the plan is too long to be looked at", remedy="shorten the task's question")
    state.proposals_path.mkdir(mode=0o700, exist_ok=True)
    if place.exists() and place.read_bytes() == data:
        return
    if not place.exists() and sum(1 for _ in state.proposals_path.iterdir()) >= MOST_PROPOSALS:
        raise PolicyError("too many studies were proposed", remedy="ask the hospital to clear state/proposals")
    write_atomically(place, data)


def proposals(state: StatePaths) -> Iterator[Envelope]:
    """Plans that were proposed, by the names of their studies; to be checked by whoever acts on them."""
    for path in sorted(state.proposals_path.glob(f"*{_SUFFIX}")):
        yield Envelope.load(path)


def proposed(state: StatePaths, study: str) -> Envelope:
    """The newest plan of a study.

    Raises:
        InputError: none was proposed.
    """
    if not _proposal(state, study).exists():
        raise InputError(f"no study {study} was proposed to this hospital", remedy="see: sonoshare hospital studies")
    return Envelope.load(_proposal(state, study))


def _place(home: NodePaths, study: str) -> Path:
    return home.approvals_path / f"{study}.json"


def _proposal(state: StatePaths, study: str) -> Path:
    return state.proposals_path / f"{study}{_SUFFIX}"
