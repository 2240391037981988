"""Which hospitals have no line out, and the replies that are carried back from them."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sonoshare_server.changing import one_at_a_time
from sonoshare_server.federation.file_fleet import Boxes, FileFleet, MixedFleet
from sonoshare_server.federation.fleet import Fleet
from sonoshare_server.federation.holding import frames_ahead
from sonoshare_server.federation.introduction import verified_answer
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.bounded import read_bounded
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.bundle import read_bundle
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import (
    MAX_FRAME_BYTES,
    TRAIN_REPLY_PAYLOAD_TYPE,
    VOTES_PAYLOAD_TYPE,
    Answer,
    Refusal,
    answer_in,
    decode_frame,
)
from sonoshare_shared.protocol.documents.masking import MASKED_PAYLOAD_TYPE, READY_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.proposal import ANSWER_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.state import read_state, write_state

_ANSWERED_BY: Final = {
    "propose": (ANSWER_PAYLOAD_TYPE,),
    "train": (TRAIN_REPLY_PAYLOAD_TYPE, READY_PAYLOAD_TYPE),
    "reveal": (MASKED_PAYLOAD_TYPE,),
    "calibrate": (VOTES_PAYLOAD_TYPE,),
    "audit": (STATEMENT_PAYLOAD_TYPE,),
    "sign": (MANIFEST_PAYLOAD_TYPE,),
}
"""Payload types of what is signed, by the kind of request."""


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


@one_at_a_time
def set_by_files(home: CoordinatorPaths, hospital: str, *, files: bool) -> None:
    """Say whether a hospital is asked by bundles; what is on its way to it is not touched."""
    others = by_files(home) - {hospital}
    write_state(home.by_files_path, sorted(others | {hospital} if files else others))


def take_reply(home: CoordinatorHome, path: Path) -> Taken:
    """Check a reply that was carried back, and give it to the action that waits for it, now or when it is run again.

    Raises:
        InputError: it cannot be read, is of another consortium, a request, or answers nothing that waits.
        IntegrityError: it was cut on its way, or is not signed by its hospital.
        FederationError: another command changes the folder for long.
    """
    try:
        data = read_bounded(path, 2 * MAX_FRAME_BYTES)
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
    late = InputError(
        f"{path.name} answers nothing that is waited for: it came too late, or is an older copy",
        remedy=f"carry what lies in outbox/{hospital}",
    )
    request = boxes.request(hospital, header.request)
    if request is None:
        raise late
    answer = answer_in(frame, hospital)
    refused = f"{answer.message} ({answer.remedy})" if isinstance(answer, Refusal) else None
    if not isinstance(answer, Refusal):
        try:
            verified_answer(answer, hospital, roster, home.log().index)
        except IntegrityError as error:
            raise IntegrityError(f"{path.name} is not an answer of {hospital}: {error.message}") from error
        if not _answers(request, answer):
            raise IntegrityError(
                f"{path.name} is what {hospital} once answered to another request",
                remedy=f"carry what lies in outbox/{hospital}",
            )
    if not boxes.take(hospital, header.request, frame):
        raise late
    return Taken(hospital, header.study, header.what, refused)


def _answers(request: bytes, answer: Answer) -> bool:
    """Whether a verified answer is to this very request: an older one would stand in the place of the true one."""
    asked = json.loads(decode_frame(request)[0])
    if asked["kind"] == "keys" or answer.envelope is None:
        return asked["kind"] == "keys" and answer.envelope is None
    try:
        payload = base64.b64decode(answer.envelope.payload)
        return answer.envelope.payloadType in _ANSWERED_BY[asked["kind"]] and _about(asked, payload)
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def _about(asked: dict[str, Any], payload: bytes) -> bool:
    """Whether what was signed is about what was asked."""
    if asked["kind"] == "sign":
        return sha256_hex(payload) == str(asked["manifest_digest"])
    said = json.loads(payload)
    if asked["kind"] == "audit":
        return bool(said["subject"][0]["digest"]["sha256"] == asked["candidate_digest"])
    plan = base64.b64decode(asked["plan"]["payload"])
    if asked["kind"] in {"calibrate", "propose"}:
        return bool(said["plan_digest"] == sha256_hex(plan))
    same = [name for name in ("round", "adapter_digest") if name in asked]
    return json.loads(plan)["study"] == said["study"] and all(said[name] == asked[name] for name in same)


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
        ahead=lambda frame: frames_ahead(study, frame),
    )
    return MixedFleet(line, files, carried)
