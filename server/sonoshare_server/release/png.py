"""Small deterministic PNG files: the same pixels always give the same bytes.

No time stamp, no text, no ancillary chunk; filter 0 and one fixed zlib level. The bytes are those of the zlib that
Python was built with: another zlib may compress differently, so digests are promised for one build only.
Read back by `sonoshare_shared.science.pictures.plain`. Source: PNG specification (third edition), sections 5 and 7.
"""

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.pictures.plain import SIGNATURE

_LEVEL: Final = 9
_GREY, _COLOUR = 0, 2


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Encode 8-bit pixels: [height, width] as greyscale, or [height, width, 3] as colour."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    # Each row is preceded by its filter type, here always 0 (none).
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    kind = _GREY if pixels.ndim == 2 else _COLOUR
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw, _LEVEL)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
