"""A frame in two parts for the way between coordinator and courier: its document, and its payload.

The payload alone is the same bytes for every hospital. Flower cuts an array into pieces of 5 MB, stores and moves each
by the sha256 of its bytes, and asks again for one that was lost on the way: a payload that goes to thirty hospitals is
handed to it once, and no program between the two handles it whole. What it carries in one piece it copies several
times over, and keeps for long (docs/measurements/federation.md).

Nothing rests on the cut: a frame is checked by the digests in it, wherever its parts came from.
"""

import struct
from typing import Final

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents.exchange import MAX_FRAME_BYTES

_LENGTH: Final = struct.Struct(">I")


def frame_parts(frame: bytes) -> tuple[bytes, bytes]:
    """A frame's document with its length, and its payload. What is no frame is cut all the same."""
    start = min(len(frame), _LENGTH.size + int.from_bytes(frame[: _LENGTH.size], "big"))
    return frame[:start], frame[start:]


def joined_frame(document: object, payload: object) -> bytes:
    """The frame of which these are the parts; they come from the other side, and may be anything.

    Raises:
        IntegrityError: they are not bytes, or too many.
    """
    if not isinstance(document, bytes) or not isinstance(payload, bytes):
        raise IntegrityError("the message holds no frame", remedy="check the peer's version")
    if len(document) + len(payload) > MAX_FRAME_BYTES:
        raise IntegrityError("a frame of more than 1 GiB was sent", remedy="check the peer's version")
    return document + payload
