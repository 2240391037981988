"""Introductions: every hospital's fresh view for all others, asked for only where something is missing.

Before an exchange each hospital must be able to see that the others hold the same log. What is missing is worked out
from the views in hand: a hospital was never seen, has not seen the step that the others want it to have seen, or has
not answered another's challenge. In a study's later rounds nothing is: the replies of one round are the views of the
next. A hospital that does not answer is asked no more in this action until it answers something.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.fleet import answers_of
from sonoshare_shared.errors import FederationError, IntegrityError, MisconductError, SonoShareError
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.documents.exchange import Answer, KeysRequest, Refusal, answer_in, encode_frame
from sonoshare_shared.protocol.documents.view import MAX_PART_ENTRIES
from sonoshare_shared.protocol.log_index import LogIndex
from sonoshare_shared.protocol.views import SeenView, result_digest, verified_view

KEYS_DEADLINE_SECONDS: Final = 60.0
MOST_OF_A_REFUSAL: Final = 2000
"""Characters of a refusal that are kept: events hold what hospitals say."""
PASSES: Final = 2
"""Once to learn everybody's challenge, once to have it answered."""


def settle(coordinator: Coordinator, step: int) -> None:
    """Introduce hospitals until each of the study can be shown what it must see of the others before a step.

    Args:
        coordinator: the action.
        step: index of the log entry that the others must have seen.

    Raises:
        FederationError: this coordinator's own log is older than what a hospital has seen of it.
    """
    for seen in coordinator.views().values():
        coordinator.require_own_log(seen)
    members = {hospital.id for hospital in coordinator.home.roster.hospitals}
    _settle_among(coordinator, members - coordinator.by_files, step)
    # One walk to who is asked by files: it is shown the challenges of all others, which then answer its own.
    for hospital in sorted(members & coordinator.by_files & set(coordinator.hospitals)):
        if _is_strange(coordinator, hospital):
            introduce(coordinator, [hospital])
    if coordinator.by_files:
        _settle_among(coordinator, members - coordinator.by_files, step)


def _settle_among(coordinator: Coordinator, members: set[str], step: int) -> None:
    for _ in range(PASSES):
        away = coordinator.absent | coordinator.barred | coordinator.busy
        here = [hospital for hospital in sorted(members) if hospital not in away]
        views = coordinator.views()
        wanting = [h for h in here if lacks(h, coordinator.hospitals, views, coordinator.log.index, step)]
        if not wanting:
            return
        introduce(coordinator, wanting)


def _is_strange(coordinator: Coordinator, hospital: str) -> bool:
    """Whether a hospital that is asked by files must be introduced before anything else.

    What it lacks of the log comes with the request itself, and its answer shows the others that it has seen it: so a
    walk is only spent where it was never seen, or does not know that another's agent was started again.
    """
    if hospital in coordinator.absent | coordinator.barred | coordinator.busy:
        return False
    views = coordinator.views()
    seen = views.get(hospital)
    others = [view for name, view in views.items() if name != hospital and name in coordinator.hospitals]
    return (
        seen is None
        or coordinator.is_former(seen)
        or not all(seen.answers(other.view.hospital, other.view.challenge) for other in others)
    )


def lacks(hospital: str, askers: Iterable[str], views: Mapping[str, SeenView], index: LogIndex, step: int) -> bool:
    """Whether a hospital's view is missing, or does not show an asker what it must see.

    Args:
        hospital: whose view.
        askers: hospitals that will be shown it.
        views: the views in hand.
        index: the coordinator's log.
        step: index of the entry that must have been seen.
    """
    seen = views.get(hospital)
    if seen is None or index.passed_on(seen.key) is not None:
        return True
    others = [views[asker] for asker in askers if asker != hospital and asker in views]
    return any(
        not seen.answers(other.view.hospital, other.view.challenge)
        or seen.log_size <= index.must_have_seen(other.key, step)
        for other in others
    )


def introduce(coordinator: Coordinator, hospitals: Iterable[str]) -> None:
    """Ask hospitals for their views, showing each the log from where it stands, and the others' challenges."""
    pending, target = list(hospitals), len(coordinator.log)
    for _ in range(2 + target // MAX_PART_ENTRIES):
        pending = [hospital for hospital in pending if hospital not in coordinator.barred]
        if not pending:
            return
        views = coordinator.views()
        before = {hospital: seen.log_size for hospital, seen in views.items()}
        requests = {hospital: encode_frame(_introduction(coordinator, hospital, views)) for hospital in pending}
        replies = answers_of(coordinator.fleet.ask(requests, KEYS_DEADLINE_SECONDS))
        for hospital in pending:
            _take(coordinator, hospital, replies.get(hospital))
        now = {hospital: seen.log_size for hospital, seen in coordinator.views().items()}
        # A hospital far behind, or one that holds less than was thought, is shown the rest.
        pending = [h for h in pending if h in replies and before.get(h, 0) != now.get(h, 0) < target]


def unrefused(answer: Answer | Refusal, hospital: str) -> Answer:
    """The answer.

    Raises:
        FederationError: the hospital refused.
    """
    if isinstance(answer, Refusal):
        said, remedy = answer.message[:MOST_OF_A_REFUSAL], answer.remedy[:MOST_OF_A_REFUSAL]
        raise FederationError(f"{hospital} refused: {said}", remedy=remedy)
    return answer


def verified_answer(answer: Answer, hospital: str, roster: Roster, index: LogIndex) -> SeenView:
    """The view in a hospital's answer, checked; of a key that was passed on where it has not seen that yet.

    Raises:
        IntegrityError: the view is not this hospital's, or goes with another answer.
    """
    seen = verified_view(answer.view, hospital, roster, index)
    if seen.view.result != (None if answer.envelope is None else result_digest(answer.envelope)):
        raise IntegrityError(f"the view of {hospital} goes with another answer", remedy="a replayed view is refused")
    return seen


def keep(coordinator: Coordinator, seen: SeenView, **about: object) -> bool:
    """Keep a view, or bar its hospital from this action because its ledger is older than it was.

    Args:
        coordinator: the action.
        seen: the view.
        about: fields of the event of a hospital that is barred.

    Returns:
        Whether it was kept.

    Raises:
        FederationError: this coordinator's own log is older than what the hospital has seen of it.
    """
    coordinator.require_own_log(seen)
    try:
        coordinator.keep(seen)
    except IntegrityError as error:
        hospital = seen.view.hospital
        coordinator.barred.add(hospital)
        coordinator.study.event("refused", hospital=hospital, reason=str(error), **about)
        if isinstance(error, MisconductError):
            coordinator.home.keep_evidence(error.evidence)
        return False
    return True


def _introduction(coordinator: Coordinator, hospital: str, views: Mapping[str, SeenView]) -> KeysRequest:
    challenges = {name: seen.view.challenge for name, seen in views.items() if name != hospital}
    return KeysRequest(log=coordinator.shown(hospital, views).log, challenges=challenges)


def _take(coordinator: Coordinator, hospital: str, frame: bytes | None) -> None:
    if frame is None:
        coordinator.absent.add(hospital)
        return
    try:
        answer, roster = unrefused(answer_in(frame, hospital), hospital), coordinator.home.roster
        seen = verified_answer(answer, hospital, roster, coordinator.index_for(roster))
    except SonoShareError as error:
        coordinator.study.event("refused", hospital=hospital, reason=str(error))
        return
    if not keep(coordinator, seen):
        _tell(coordinator, seen)
    elif seen.view.evidence is not None:
        coordinator.study.event("refused", hospital=hospital, reason=f"it holds evidence {seen.view.evidence[:12]}")


def _tell(coordinator: Coordinator, seen: SeenView) -> None:
    """Show a hospital whose ledger is older than it was what the log says of it, so that it stops by itself."""
    hospital = seen.view.hospital
    request = KeysRequest(log=coordinator.log.part(seen.log_size))
    answers_of(coordinator.fleet.ask({hospital: encode_frame(request)}, KEYS_DEADLINE_SECONDS))
