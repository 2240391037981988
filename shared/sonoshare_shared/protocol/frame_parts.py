"""A frame in two parts for the way between coordinator and courier: its document, and its payload.

The payload alone is the same bytes for every hospital. Flower cuts an array into pieces of 5 MB, stores and moves each
by the sha256 of its bytes, and asks again for one that was lost on the way: a payload that goes to thirty hospitals is
handed to it once, and no program between the two handles it whole. What it carries in one piece it copies several
times over, and keeps for long (docs/measurements/federation.md).

But Flower also moves every part of a message by itself, with a request that costs two programs some milliseconds each
way, and an array is three parts at least. So a payload of ``RECORD_BYTES`` or less is one part beside its document
where several hospitals get it, and none, but the end of its document, where it goes to one.

Nothing rests on the cut: a frame is checked by the digests in it, wherever its parts came from.
"""

import struct
from typing import Final

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents.exchange import MAX_FRAME_BYTES

QUERY: Final = "sonoshare"
"""The one kind of message, of Flower's queries."""
DOCUMENT: Final = "document"
PAYLOAD: Final = "payload"
FIELD: Final = "bytes"
"""Names of the records of a message, and of the one field that each has."""
RECORD_BYTES: Final = 4 << 20
"""Less than a piece of an array: cutting would save nothing."""
WHOLE_BYTES: Final = 64 << 10
"""Of a payload that several hospitals get: to send it several times costs less than another part for each."""

_LENGTH: Final = struct.Struct(">I")


def frame_parts(frame: bytes) -> tuple[bytes, bytes]:
    """A frame's document with its length, and its payload. What is no frame is cut all the same."""
    start = min(len(frame), _LENGTH.size + int.from_bytes(frame[: _LENGTH.size], "big"))
    return frame[:start], frame[start:]


def parts_to_one(frame: bytes) -> tuple[bytes, bytes]:
    """The parts of a frame that nobody else gets: a short one is a document and nothing else."""
    document, payload = frame_parts(frame)
    return (document, payload) if len(payload) > RECORD_BYTES else (frame, b"")


def joined_frame(document: object, payload: object) -> bytes:
    """The frame of which these are the parts; they come from the other side, and may be anything.

    Raises:
        IntegrityError: they are not bytes, or too many.
    """
    if not isinstance(document, bytes) or not isinstance(payload, bytes):
        raise IntegrityError("the message holds no frame", remedy="check the peer's version")
    if len(document) + len(payload) > MAX_FRAME_BYTES:
        raise IntegrityError(
            f"a frame of more than {MAX_FRAME_BYTES >> 20} MiB was sent", remedy="check the peer's version"
        )
    return document + payload
