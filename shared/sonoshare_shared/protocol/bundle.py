"""A frame on a stick: a request to a hospital without a line out, or its reply, with a header that says which.

    u32 length, header (canonical JSON), frame

The frame is the very one that would travel over the network, and is checked as there: signatures are inside it. The
header is for people and for clear errors: it says whose stick this is, and its digest tells a file that was cut.

Not promised: that the header is true. Nothing but the choice of an error's words rests on it.
"""

import json
from typing import Annotated, Final, Literal

from pydantic import Field

from sonoshare_shared.errors import IntegrityError, NewerVersionError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier
from sonoshare_shared.protocol.documents.exchange import decode_frame, encode_frame

SUFFIX: Final = ".bundle"
_CHANGING: Final = frozenset({"shown", "log", "challenges"})
"""What a request shows of the log and of others: it is another each time the same is asked."""


class BundleHeader(Document):
    """What a bundle is.

    Attributes:
        kind: a request to the hospital, or its reply.
        consortium: the consortium's name.
        hospital: who is asked, or has answered.
        study: the study it is about.
        what: what is asked, as in ``round-1``, ``audit-r1``.
        roster: version of the roster that it was made under.
        request: sha256 of the request's frame; in the request itself too.
        frame: sha256 of the frame in this bundle.
    """

    schema_: Literal["sonoshare/bundle/v1"] = Field(default="sonoshare/bundle/v1", alias="schema")
    kind: Literal["request", "reply"]
    consortium: Identifier
    hospital: Identifier
    study: Identifier
    what: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")]
    roster: Annotated[int, Field(ge=0)]
    request: HexDigest
    frame: HexDigest

    @property
    def file_name(self) -> str:
        """Name of the bundle's file."""
        return f"{self.study}-{self.what}-{self.request[:8]}{'' if self.kind == 'request' else '-reply'}{SUFFIX}"


def write_bundle(header: BundleHeader, frame: bytes) -> bytes:
    """A bundle's bytes."""
    return encode_frame(header, frame)


def read_bundle(data: bytes, name: str) -> tuple[BundleHeader, bytes]:
    """Header and frame of a bundle.

    Args:
        data: the file.
        name: its name, for errors.

    Raises:
        NewerVersionError: a newer version of SonoShare made it.
        IntegrityError: it is no bundle, or was cut or changed on its way.
    """
    try:
        header_bytes, frame = decode_frame(data)
        header = BundleHeader.from_bytes(header_bytes)
    except NewerVersionError:
        raise
    except IntegrityError as error:
        raise IntegrityError(f"{name} is no bundle, or was cut", remedy="copy it to the stick again") from error
    if sha256_hex(frame) != header.frame:
        raise IntegrityError(f"{name} was cut or changed on its way", remedy="copy it to the stick again")
    return header, frame


def asks_for(frame: bytes) -> str:
    """What a request asks for, in a word or two that a file's name can hold.

    Raises:
        IntegrityError: the frame is truncated.
    """
    said = json.loads(decode_frame(frame)[0])
    detail = said.get("round", said.get("release", ""))
    return f"{said['kind']}-{detail}".rstrip("-").replace("train-", "round-")


def same_question(frame: bytes) -> str:
    """Digest of what a request asks, whatever it shows of the log: the same question has the same answer.

    An introduction is about nothing but what it shows, so each is a question of its own.

    Raises:
        IntegrityError: the frame is truncated.
    """
    header, payload = decode_frame(frame)
    said = json.loads(header)
    asked = said if said["kind"] == "keys" else {name: part for name, part in said.items() if name not in _CHANGING}
    return sha256_hex(canonical_bytes(asked) + payload)
