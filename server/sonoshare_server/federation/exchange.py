"""One exchange: ask all hospitals of a study one thing, verify each answer, record what became of it.

Every round, ballot, audit and signature goes through here, so each gets the same: introductions where something is
missing (``introduction``), the log and the others' views with each request, one deadline, the check of the hospital's
view and then of what it says, and an event for every hospital that refused or did not answer. A hospital that says
that it has not been shown enough (it was started again meanwhile) is introduced and asked once more by the deadline.

What a hospital says is checked by the question's own ``verify``, which takes bytes and returns a value or raises, and
touches nothing; what follows from it is stored by ``record``.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.introduction import introduce, keep, settle, unrefused, verified_answer
from sonoshare_shared.errors import FederationError, SonoShareError, WitnessError
from sonoshare_shared.protocol.documents import Document, Roster
from sonoshare_shared.protocol.documents.exchange import Answer, Refusal, answer_in, encode_frame
from sonoshare_shared.protocol.documents.view import Shown
from sonoshare_shared.protocol.log_index import Entry
from sonoshare_shared.protocol.views import SeenView

T = TypeVar("T")
_SHORTEST_DEADLINE_SECONDS = 1.0


@dataclass(frozen=True)
class Question(Generic[T]):
    """What all hospitals are asked.

    Attributes:
        request: makes the request of what a hospital is shown.
        payload: bytes that go with it.
        after: an entry in the log whose slot the other hospitals must have seen filled.
        deadline_seconds: for all answers together.
        verify: checks a hospital's answer and returns what it says; raises a SonoShareError if it cannot be used.
        record: stores what a hospital said.
        about: fields of the events of hospitals that refused or are missing.
        quorum: how many must answer usefully.
        name: what this is, for the message when they do not.
    """

    request: Callable[[Shown], Document]
    payload: bytes
    after: Entry
    deadline_seconds: float
    verify: Callable[[str, Answer], T]
    record: Callable[[str, T], None]
    about: Mapping[str, object]
    quorum: int = 0
    name: str = "the exchange"


def exchange(coordinator: Coordinator, question: Question[T]) -> dict[str, T]:
    """Ask every hospital of the study, and return what each usefully said.

    Raises:
        FederationError: fewer than the quorum; or this coordinator's log is older than what a hospital has seen.
    """
    step = coordinator.log.index.place(question.after)
    if step is None:
        raise FederationError("the step is not in the log", remedy="log it before asking for it")
    settle(coordinator, step)
    end = time.monotonic() + question.deadline_seconds
    answers = _ask(coordinator, question, coordinator.hospitals, question.deadline_seconds)
    if unshown := [hospital for hospital, answer in answers.items() if _is_unshown(answer)]:
        introduce(coordinator, unshown)
        settle(coordinator, step)
        left = max(_SHORTEST_DEADLINE_SECONDS, end - time.monotonic())
        answers |= _ask(coordinator, question, unshown, left)
    said = _recorded(coordinator, question, answers)
    if len(said) < question.quorum:
        raise FederationError(
            f"{question.name} has {len(said)} of {question.quorum} updates it needs",
            remedy="see the study's events, then resume the study",
        )
    return said


def _ask(
    coordinator: Coordinator, question: Question[T], hospitals: Iterable[str], deadline_seconds: float
) -> dict[str, Answer | Refusal | SonoShareError]:
    """One frame to each hospital; what came back, unpacked and not yet verified."""
    asked = [hospital for hospital in hospitals if hospital not in coordinator.barred]
    views = coordinator.views()
    frames = {
        hospital: encode_frame(question.request(coordinator.shown(hospital, views)), question.payload)
        for hospital in asked
    }
    replies = coordinator.fleet.ask(frames, deadline_seconds)
    coordinator.absent.difference_update(replies)
    coordinator.absent.update(set(asked) - set(replies))
    return {hospital: _unpacked(frame, hospital) for hospital, frame in replies.items()}


def _unpacked(frame: bytes, hospital: str) -> Answer | Refusal | SonoShareError:
    try:
        return answer_in(frame, hospital)
    except SonoShareError as error:
        return error


def _is_unshown(answer: Answer | Refusal | SonoShareError) -> bool:
    return isinstance(answer, Refusal) and answer.error == WitnessError.__name__


def _recorded(
    coordinator: Coordinator, question: Question[T], answers: Mapping[str, Answer | Refusal | SonoShareError]
) -> dict[str, T]:
    said: dict[str, T] = {}
    for hospital in coordinator.hospitals:
        if hospital in coordinator.barred:
            continue  # said why when it was barred
        answer = answers.get(hospital)
        if answer is None:
            coordinator.study.event("missing", hospital=hospital, **question.about)
            continue
        try:
            seen, value = _verified(coordinator.home.roster, question, hospital, answer)
        except SonoShareError as error:
            coordinator.study.event("refused", hospital=hospital, reason=str(error), **question.about)
            continue
        if keep(coordinator, seen, **question.about):
            said[hospital] = value
            question.record(hospital, value)
    return said


def _verified(
    roster: Roster, question: Question[T], hospital: str, answer: Answer | Refusal | SonoShareError
) -> tuple[SeenView, T]:
    """What a hospital has seen and what it says, both checked; nothing is touched."""
    if isinstance(answer, SonoShareError):
        raise answer
    answer = unrefused(answer, hospital)
    return verified_answer(answer, hospital, roster), question.verify(hospital, answer)
