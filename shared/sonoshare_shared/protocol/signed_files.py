"""Signed files that people send each other, by kind: who gives one in the place of another is told both.

    error: west-invitation.json is an invitation, not a request to join (give the file that …)

Promise: only what an envelope says of itself is looked at, to refuse it. Nothing of it is believed here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sonoshare_shared.errors import InputError, VerificationError
from sonoshare_shared.protocol.documents.identity_succession import SUCCESSION_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.invitation import INVITATION_PAYLOAD_TYPE, JOIN_REQUEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.node_key_change import NODE_KEY_CHANGE_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.release import LOG_HEAD_PAYLOAD_TYPE, MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release.evidence import REVOCATION_PAYLOAD_TYPE


@dataclass(frozen=True)
class Kind:
    """A kind of signed file.

    Attributes:
        words: what it is.
        payload_types: that its envelope may have.
        remedy: where the right file is from.
    """

    words: str
    payload_types: tuple[str, ...]
    remedy: str


INVITATION: Final = Kind(
    "an invitation", (INVITATION_PAYLOAD_TYPE,), "give the file that the coordinator made: sonoshare coordinator invite"
)
JOIN_REQUEST: Final = Kind(
    "a request to join", (JOIN_REQUEST_PAYLOAD_TYPE,), "give the file that the hospital made: sonoshare hospital join"
)
ROSTER: Final = Kind("a roster", (ROSTER_PAYLOAD_TYPE,), "give roster.dsse.json, which the coordinator sends to all")
KEY_CHANGE: Final = Kind(
    "a change of keys",
    (NODE_KEY_CHANGE_PAYLOAD_TYPE, SUCCESSION_PAYLOAD_TYPE),
    "give the file that the hospital made: sonoshare hospital keys rotate",
)
REVOCATION: Final = Kind(
    "a revocation", (REVOCATION_PAYLOAD_TYPE,), "give the file that the hospital made: sonoshare hospital revoke"
)
_OTHERS: Final = (
    Kind("a study's plan", (PLAN_PAYLOAD_TYPE,), ""),
    Kind("an audit's statement", (STATEMENT_PAYLOAD_TYPE,), ""),
    Kind("a signature of a release", (MANIFEST_PAYLOAD_TYPE,), ""),
    Kind("a head of the log", (LOG_HEAD_PAYLOAD_TYPE,), ""),
)
_WORDS: Final = {
    payload_type: kind.words
    for kind in (INVITATION, JOIN_REQUEST, ROSTER, KEY_CHANGE, REVOCATION, *_OTHERS)
    for payload_type in kind.payload_types
}


def read_signed(path: Path, kind: Kind) -> Envelope:
    """Read a signed file of one kind; its signature is not checked here.

    Raises:
        InputError: it cannot be read, is no signed file, or one of another kind.
    """
    try:
        return signed_text(path.read_bytes(), kind, path.name)
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}", remedy="check the path") from error


def signed_text(data: bytes, kind: Kind, name: str = "this") -> Envelope:
    """The same, of what a file holds.

    Args:
        data: of the file.
        kind: what it should be.
        name: what it is called.

    Raises:
        InputError: as `read_signed`.
    """
    try:
        envelope = Envelope.from_bytes(data)
    except VerificationError as error:
        raise InputError(f"{name} is not {kind.words}: it is no signed file", remedy=kind.remedy) from error
    if envelope.payloadType not in kind.payload_types:
        found = _WORDS.get(envelope.payloadType, "a signed file of another kind")
        raise InputError(f"{name} is {found}, not {kind.words}", remedy=kind.remedy)
    return envelope
