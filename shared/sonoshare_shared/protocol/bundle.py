"""A frame on a stick: a request to a hospital without a line out, or its reply, with a header that says which.

    u32 length, header (canonical JSON), frames that go ahead, frame

A request may need others before it: an audit, the batches of its candidate. They go ahead in the same bundle, and the
hospital's agent answers them in turn. Each is read alone: a bundle may be larger than the memory.

The frame is the very one that would travel over the network, and is checked as there: signatures are inside it. The
header is for people and for clear errors: it says whose stick this is, and its digests tell a file that was cut.

Not promised: that the header is true. Nothing but the choice of an error's words rests on it.
"""

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal

from pydantic import Field

from sonoshare_shared.errors import IntegrityError, NewerVersionError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.documents.exchange import MAX_FRAME_BYTES, decode_frame, encode_frame

SUFFIX: Final = ".bundle"
_CHANGING: Final = frozenset({"shown", "log", "challenges"})
"""What a request shows of the log and of others: it is another each time the same is asked."""


_LENGTH: Final = struct.Struct(">I")
_MOST_HEADER_BYTES: Final = 16 << 20
_COPY_AGAIN: Final = "copy it to the stick again"


class Ahead(Document):
    """A frame that goes ahead.

    Attributes:
        size: its bytes.
        frame: its sha256.
    """

    size: Annotated[int, Field(ge=4, le=MAX_FRAME_BYTES)]
    frame: HexDigest


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
        ahead: frames that are answered before it, in order.
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
    ahead: tuple[Ahead, ...] | None = added()

    @property
    def file_name(self) -> str:
        """Name of the bundle's file."""
        return f"{self.study}-{self.what}-{self.request[:8]}{'' if self.kind == 'request' else '-reply'}{SUFFIX}"


def write_bundle(header: BundleHeader, frame: bytes) -> bytes:
    """Bytes of a bundle with nothing ahead."""
    return encode_frame(header, frame)


def request_bundle(
    header: BundleHeader, ahead: Callable[[], Iterable[bytes]], frame: bytes
) -> tuple[BundleHeader, Iterator[bytes]]:
    """Header and parts of a request's bundle.

    Args:
        header: the header, which names nothing ahead yet.
        ahead: gives what goes ahead, the same each time; called twice.
        frame: the request.
    """
    first = tuple(Ahead(size=len(one), frame=sha256_hex(one)) for one in ahead())
    whole = header.model_copy(update={"ahead": first}) if first else header

    def parts() -> Iterator[bytes]:
        yield encode_frame(whole)
        yield from ahead()
        yield frame

    return whole, parts()


def read_bundle(data: bytes, name: str) -> tuple[BundleHeader, bytes]:
    """Header and frame of a bundle that is in memory; as ``read_bundle_file``."""
    return _read(BytesIO(data), name)


def read_bundle_file(path: Path) -> tuple[BundleHeader, bytes]:
    """Header and frame of a bundle; what goes ahead is passed over.

    Raises:
        NewerVersionError: a newer version of SonoShare made it.
        IntegrityError: it is no bundle, or was cut or changed on its way.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _read(file, path.name)


def frames_ahead(path: Path) -> Iterator[bytes]:
    """What goes ahead in a bundle, one at a time.

    Raises:
        IntegrityError: it was cut or changed on its way.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        for one in _header(file, path.name).ahead or ():
            yield _frame(file, one.size, one.frame, path.name)


def _read(file: BinaryIO, name: str) -> tuple[BundleHeader, bytes]:
    header = _header(file, name)
    file.seek(sum(one.size for one in header.ahead or ()), 1)
    return header, _frame(file, MAX_FRAME_BYTES, header.frame, name)


def _header(file: BinaryIO, name: str) -> BundleHeader:
    try:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        return BundleHeader.from_bytes(file.read(min(length, _MOST_HEADER_BYTES)))
    except NewerVersionError:
        raise
    except (IntegrityError, struct.error) as error:
        raise IntegrityError(f"{name} is no bundle, or was cut", remedy=_COPY_AGAIN) from error


def _frame(file: BinaryIO, size: int, digest: str, name: str) -> bytes:
    frame = file.read(size)
    if sha256_hex(frame) != digest:
        raise IntegrityError(f"{name} was cut or changed on its way", remedy=_COPY_AGAIN)
    return frame


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
