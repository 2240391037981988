"""Plain PNG files, as releases hold them: a picture, and nothing else that anybody could see or hide.

A PNG file has room for more than one picture: frames of an animation, a palette, transparency or gamma that other
programs heed, texts, bytes after the end. Whoever judges the pixels that one program shows has not judged those.

Promise: of a file that `plain_grey` accepts, every byte but the choices of the compressor is determined by the pixels
returned: signature, IHDR (8 bits, grey, not interlaced), IDAT, IEND, right checksums, no filter, one zlib stream that
ends with the last row. No more memory is used than the size expected allows. Source: PNG specification (third
edition), sections 5, 7 and 10.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import IntegrityError

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_SIDE: Final = 1 << 14
_REMEDY: Final = "sample the candidate again"


def plain_grey(data: bytes) -> NDArray[np.uint8]:
    """Pixels of a plain grey PNG, uint8 [height, width].

    Raises:
        IntegrityError: the bytes are no such file, or hold anything else.
    """
    chunks = list(_chunks(data))
    kinds = [kind for kind, _ in chunks]
    if len(kinds) < 3 or kinds != [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"] or chunks[-1][1]:
        raise IntegrityError("a PNG holds something besides a picture", remedy=_REMEDY)
    header = chunks[0][1]
    if len(header) != 13 or header[8:] != bytes([8, 0, 0, 0, 0]):
        raise IntegrityError("a PNG is not 8-bit greyscale as releases hold it", remedy=_REMEDY)
    width, height = struct.unpack(">II", header[:8])
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise IntegrityError("a PNG has an impossible size", remedy=_REMEDY)
    rows = _inflated(b"".join(part for _, part in chunks[1:-1]), height * (width + 1)).reshape(height, width + 1)
    if rows[:, 0].any():
        raise IntegrityError("a PNG with filters is not of a release", remedy=_REMEDY)
    return rows[:, 1:]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(SIGNATURE):
        raise IntegrityError("not a PNG", remedy=_REMEDY)
    offset = len(SIGNATURE)
    while offset < len(data):
        if offset + 12 > len(data):
            raise IntegrityError("a PNG is damaged, or followed by something", remedy=_REMEDY)
        (length,) = struct.unpack_from(">I", data, offset)
        body = data[offset + 4 : offset + 8 + length]
        if offset + 12 + length > len(data) or struct.unpack_from(">I", data, offset + 8 + length) != (
            zlib.crc32(body),
        ):
            raise IntegrityError("a PNG is damaged, or followed by something", remedy=_REMEDY)
        yield body[:4], body[4:]
        offset += 12 + length


def _inflated(stream: bytes, expected: int) -> NDArray[np.uint8]:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(stream, expected + 1)
    except zlib.error as error:
        raise IntegrityError("a PNG is damaged", remedy=_REMEDY) from error
    if len(raw) != expected or not inflater.eof or inflater.unused_data or inflater.unconsumed_tail:
        raise IntegrityError("a PNG holds more or less than its picture", remedy=_REMEDY)
    return np.frombuffer(raw, np.uint8)
