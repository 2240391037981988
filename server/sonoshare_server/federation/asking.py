"""One question put to several hospitals: answers are taken as they arrive, and who is not heard of leaves.

While it is open, the study's events say who is awaited and until when (``waiting``), and for each hospital what became
of it, at once. It closes

- when everybody has answered or been refused;
- at the deadline, or when nobody wants the answers any more (``actions``);
- once enough have answered, and nobody is awaited but hospitals in trouble (silent when they were last asked, or their
  message came back with an error): these get as long again as the others needed. So a hung hospital costs the deadline
  once, and later rounds a little.

A message that comes back with an error (a courier or an agent is started again) is sent once more after a while, and
again, as long as the question is open. A hospital that says that it has not been shown enough (it was started again
meanwhile) is introduced and asked once more, as soon as enough others are free to say what they have seen: an agent
answers one thing at a time. The same request gets the same bytes, so asking again repeats nothing that was answered.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.fleet import Arrived, Frames
from sonoshare_server.federation.introduction import introduce, keep, settle, unrefused, verified_answer
from sonoshare_shared.errors import SonoShareError, WitnessError
from sonoshare_shared.protocol.documents import Document
from sonoshare_shared.protocol.documents.exchange import Answer, Refusal, answer_in, encode_frame
from sonoshare_shared.protocol.documents.view import Shown
from sonoshare_shared.protocol.log_index import Entry
from sonoshare_shared.protocol.views import SeenView

T = TypeVar("T")
SHORTEST_DEADLINE_SECONDS: Final = 1.0
SHORTEST_PATIENCE_SECONDS: Final = 15.0
"""With hospitals in trouble, where the others answer at once."""
RETRY_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.3


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
        hospitals: who is asked; None for every hospital of the study.
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
    hospitals: tuple[str, ...] | None = None


@dataclass
class Asking(Generic[T]):
    """A question on its way.

    Attributes:
        coordinator: the action.
        question: the question.
        step: index of the log entry that others must have seen.
        said: what each hospital usefully said.
        left: why each other one is left out.
        errors: name of the error with which a hospital refused.
    """

    coordinator: Coordinator
    question: Question[T]
    step: int
    said: dict[str, T] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    _looks: list[tuple[set[str], Iterator[Arrived]]] = field(default_factory=list)
    _again: dict[str, float] = field(default_factory=dict)
    _unshown: dict[str, bool] = field(default_factory=dict)
    _shown_again: set[str] = field(default_factory=set)
    _early: set[str] = field(default_factory=set)
    _troubled: set[str] = field(default_factory=set)
    _start: float = 0.0
    _slowest: float = 0.0

    def run(self) -> None:
        """Ask, and take what comes until the question closes; then record who is missing."""
        self._troubled = set(self.coordinator.absent)
        self._start = self.coordinator.clock()
        try:
            self._send(self._present())
            while self._awaited and not self._closes():
                self.coordinator.require_wanted()
                self._look()
                self._ask_again()
        finally:
            awaited = self._awaited
            self.coordinator.busy.clear()
        for hospital in sorted(awaited):
            self.coordinator.absent.add(hospital)
            self._leave("missing", hospital, f"no answer within {self._elapsed():.0f} s")

    @property
    def _deadline(self) -> float:
        """The question's, or a round's where answers have to be carried."""
        coordinator, deadline = self.coordinator, self.question.deadline_seconds
        asked = set(coordinator.hospitals if self.question.hospitals is None else self.question.hospitals)
        carried = asked & coordinator.by_files
        return max(deadline, coordinator.study.plan.round_deadline_seconds) if carried else deadline

    @property
    def _awaited(self) -> set[str]:
        return self.coordinator.busy | self._again.keys() | self._unshown.keys()

    def _present(self) -> list[str]:
        """Whom to ask: who has left the roster, or is barred, leaves at once."""
        coordinator, question = self.coordinator, self.question
        asked = coordinator.hospitals if question.hospitals is None else question.hospitals
        roster = coordinator.home.roster
        for hospital in asked:
            if roster.hospital(hospital) is None:
                self._leave("missing", hospital, "it is not in the roster any more")
        present = [hospital for hospital in asked if hospital not in self.left]
        self.left |= dict.fromkeys(coordinator.barred.intersection(present), "it said why when it was barred")
        return [hospital for hospital in present if hospital not in self.left]

    def _send(self, hospitals: Iterable[str]) -> None:
        """One frame to each hospital."""
        coordinator, question = self.coordinator, self.question
        asked = [hospital for hospital in hospitals if hospital not in coordinator.barred]
        if not asked:
            return
        views = coordinator.views()
        documents = {hospital: encode_frame(question.request(coordinator.shown(hospital, views))) for hospital in asked}
        coordinator.busy.update(asked)
        left = max(SHORTEST_DEADLINE_SECONDS, self._deadline - self._elapsed())
        self._looks.append((set(asked), coordinator.fleet.ask(Frames(documents, question.payload), left)))
        self._tell()

    def _look(self) -> None:
        """Take what has arrived; a hospital of a look that ended without its answer is awaited no more."""
        if not self._looks:
            self.coordinator.pause(PAUSE_SECONDS)
        for asked, look in tuple(self._looks):
            arrived = next(look, None)
            if arrived is None:
                self._looks.remove((asked, look))
                self._silent(asked & self.coordinator.busy)
                continue
            for hospital, frame in arrived.items():
                asked.discard(hospital)
                self._take(hospital, frame)
            if arrived:
                self._tell()

    def _silent(self, hospitals: set[str]) -> None:
        for hospital in sorted(hospitals):
            self.coordinator.busy.discard(hospital)
            self.coordinator.absent.add(hospital)
            self._leave("missing", hospital, f"no answer within {self._elapsed():.0f} s")

    def _take(self, hospital: str, frame: bytes | None) -> None:
        """What came back from a hospital."""
        coordinator = self.coordinator
        coordinator.busy.discard(hospital)
        if frame is None:
            self._troubled.add(hospital)
            self._again[hospital] = coordinator.clock() + RETRY_SECONDS
            return
        coordinator.absent.discard(hospital)
        self._slowest = self._elapsed()
        try:
            answer = answer_in(frame, hospital)
            if _is_unshown(answer) and self._may_be_shown_more(hospital):
                return
            if isinstance(answer, Refusal):
                self.errors[hospital] = answer.error
            seen = self._seen(hospital, answer)
            if coordinator.is_former(seen) and self._may_be_shown_more(hospital):
                return  # its key was passed on while it worked: it gives the same again, signed by the new one
            value = self.question.verify(hospital, unrefused(answer, hospital))
        except SonoShareError as error:
            self._leave("refused", hospital, str(error))
            return
        if keep(coordinator, seen, **self.question.about):
            self.said[hospital] = value
            self.question.record(hospital, value)
        else:
            self.left[hospital] = "its ledger is older than it was"

    def _seen(self, hospital: str, answer: Answer | Refusal) -> SeenView:
        """What a hospital has seen, checked; nothing is touched."""
        roster = self.coordinator.home.roster
        return verified_answer(unrefused(answer, hospital), hospital, roster, self.coordinator.index_for(roster))

    def _ask_again(self) -> None:
        """Introduce and ask once more who has not been shown enough, and whose message came back."""
        coordinator = self.coordinator
        due = {hospital for hospital, moment in self._again.items() if coordinator.clock() >= moment}
        for hospital in due:
            del self._again[hospital]
        self._send(sorted(due))
        nobody_else, others = not coordinator.busy, self._others_are_free()
        again = sorted(h for h, early in self._unshown.items() if nobody_else or (early and others))
        if again:
            self._unshown = {h: early for h, early in self._unshown.items() if h not in again}
            self._shown_again.update(again)
            if coordinator.busy:
                self._early.update(again)
            introduce(coordinator, again)
            settle(coordinator, self.step)
            # Who did not answer its introduction is as silent as before it.
            self._silent({hospital for hospital in again if hospital in coordinator.absent})
            self._send(hospital for hospital in again if hospital not in coordinator.absent)

    def _may_be_shown_more(self, hospital: str) -> bool:
        """Whether a hospital that has not been shown enough is asked once more.

        It may require more others than were free (by its own rules, and by the roster that it holds): then it is asked
        for the last time when nobody else is answering any more.
        """
        if hospital in self._shown_again and hospital not in self._early:
            return False
        self._unshown[hospital] = hospital not in self._shown_again
        self._early.discard(hospital)
        return True

    def _others_are_free(self) -> bool:
        """Whether as many as a hospital requires by default can say what they have seen."""
        coordinator = self.coordinator
        if coordinator.busy & coordinator.by_files:
            return False  # what it carries back may be what they lack, and they are introduced only once more
        members = {hospital.id for hospital in coordinator.home.roster.hospitals}
        free = members - coordinator.busy - coordinator.absent - coordinator.barred
        return len(free) > len(members) // 2

    def _closes(self) -> bool:
        elapsed = self._elapsed()
        if elapsed >= self._deadline:
            return True
        if len(self.said) < self.question.quorum or self._awaited - self._troubled:
            return False
        return elapsed >= self._slowest + max(self._slowest, SHORTEST_PATIENCE_SECONDS)

    def _leave(self, kind: str, hospital: str, reason: str) -> None:
        self.left[hospital] = reason
        self.coordinator.study.event(kind, hospital=hospital, reason=reason, **self.question.about)

    def _tell(self) -> None:
        """Say who is awaited, and until when."""
        if not (awaited := self._awaited):
            return
        left = max(0.0, self._deadline - self._elapsed())
        until = (datetime.now(UTC) + timedelta(seconds=left)).isoformat(timespec="seconds")
        answered = sorted(self.said)
        self.coordinator.study.event(
            "waiting", **self.question.about, answered=answered, awaited=sorted(awaited), until=until
        )

    def _elapsed(self) -> float:
        return self.coordinator.clock() - self._start


def _is_unshown(answer: Answer | Refusal) -> bool:
    return isinstance(answer, Refusal) and answer.error == WitnessError.__name__
