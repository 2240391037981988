"""Which hospitals have no line out, and the replies that are carried back from them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sonoshare_server.federation.file_fleet import Boxes, FileFleet, MixedFleet
from sonoshare_server.federation.fleet import Fleet
from sonoshare_server.federation.introduction import verified_answer
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.bundle import read_bundle
from sonoshare_shared.protocol.documents.exchange import Refusal, answer_in
from sonoshare_shared.state import read_state, write_state


@dataclass(frozen=True)
class Taken:
    """A reply that was taken in.

    Attributes:
        hospital: whose.
        study: about which study.
        what: to what, as in ``round-1``.
        refused: what the hospital refused, and why; None where it answered.
    """

    hospital: str
    study: str
    what: str
    refused: str | None


def by_files(home: CoordinatorPaths) -> frozenset[str]:
    """Hospitals that are asked by bundles."""
    if not home.by_files_path.exists():
        return frozenset()
    return frozenset(read_state(home.by_files_path, list[str], remedy="put back its newest copy"))


def set_by_files(home: CoordinatorPaths, hospital: str, *, files: bool) -> None:
    """Say whether a hospital is asked by bundles; what is on its way to it is not touched."""
    others = by_files(home) - {hospital}
    write_state(home.by_files_path, sorted(others | {hospital} if files else others))


def take_reply(home: CoordinatorHome, path: Path) -> Taken:
    """Check a reply that was carried back, and give it to the action that waits for it, now or when it is run again.

    Raises:
        InputError: it cannot be read, is of another consortium, a request, or answers nothing that waits.
        IntegrityError: it was cut on its way, or is not signed by its hospital.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}", remedy="check the path") from error
    header, frame = read_bundle(data, path.name)
    roster, hospital = home.roster, header.hospital
    if header.kind != "reply":
        raise InputError(f"{path.name} is a request", remedy="carry it to the hospital: sonoshare hospital answer")
    if header.consortium != roster.consortium:
        raise InputError(f"{path.name} is of consortium {header.consortium}", remedy="take it to that coordinator")
    if roster.hospital(hospital) is None:
        raise InputError(f"{path.name} is of {hospital}, which is not in the roster", remedy="ask who sent it")
    boxes = Boxes(home)
    if header.request not in boxes.waiting(hospital):
        raise InputError(
            f"{path.name} answers nothing that is waited for: it came too late, or is an older copy",
            remedy=f"carry what lies in outbox/{hospital}",
        )
    answer = answer_in(frame, hospital)
    refused = f"{answer.message} ({answer.remedy})" if isinstance(answer, Refusal) else None
    if not isinstance(answer, Refusal):
        try:
            verified_answer(answer, hospital, roster)
        except IntegrityError as error:
            raise IntegrityError(f"{path.name} is not an answer of {hospital}: {error.message}") from error
    boxes.take(hospital, header.request, frame)
    return Taken(hospital, header.study, header.what, refused)


def mixed_fleet(
    home: CoordinatorHome, study: Study, line: Fleet, carried: frozenset[str], look: Callable[[], None] = lambda: None
) -> Fleet:
    """The hospitals of a study: those with a line, and the others by bundles."""
    if not carried:
        return line
    files = FileFleet(
        Boxes(home),
        home.roster,
        study.plan.study,
        patience_seconds=study.plan.round_deadline_seconds,
        tell=study.event,
        look=look,
    )
    return MixedFleet(line, files, carried)
