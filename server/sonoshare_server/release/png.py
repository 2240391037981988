"""Small deterministic PNG files: the same pixels always give the same bytes.

No time stamp, no text, no ancillary chunk; filter 0 and one fixed zlib level. The bytes are those of the zlib that
Python was built with: another zlib may compress differently, so digests are promised for one build only.
Source: PNG specification (third edition), sections 5 and 7.
"""

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import IntegrityError

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_LEVEL: Final = 9
_GREY, _COLOUR = 0, 2
_MAX_SIDE: Final = 1 << 14
_HEADER_BYTES: Final = len(_SIGNATURE) + 8 + 13 + 4


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Encode 8-bit pixels: [height, width] as greyscale, or [height, width, 3] as colour."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    # Each row is preceded by its filter type, here always 0 (none).
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    kind = _GREY if pixels.ndim == 2 else _COLOUR
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw, _LEVEL)) + _chunk(b"IEND", b"")


def decode_grey(data: bytes) -> NDArray[np.uint8]:
    """Decode a greyscale image that ``encode`` wrote: uint8 [height, width].

    Raises:
        IntegrityError: the bytes are no such image.
    """
    try:
        width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
        if not data.startswith(_SIGNATURE) or (depth, kind) != (8, _GREY) or max(width, height) > _MAX_SIDE:
            raise IntegrityError("not a greyscale PNG of this release", remedy="sample the candidate again")
        (length,) = struct.unpack(">I", data[_HEADER_BYTES : _HEADER_BYTES + 4])
        start = _HEADER_BYTES + 8
        raw = zlib.decompress(data[start : start + length], bufsize=height * (width + 1))
        rows = np.frombuffer(raw, np.uint8).reshape(height, width + 1)
    except (struct.error, zlib.error, ValueError) as error:
        raise IntegrityError("not a PNG of this release", remedy="sample the candidate again") from error
    if rows[:, 0].any():
        raise IntegrityError("a PNG with filters is not of this release", remedy="sample the candidate again")
    return rows[:, 1:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
