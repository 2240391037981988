"""A picture of a release is that picture and nothing else, for whatever program opens the file."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tests.shared.animated_png import PIXELS, animated

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.science.pictures.plain import SIGNATURE, plain_grey

ROWS = b"".join(b"\0" + row.tobytes() for row in PIXELS)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0))
END = chunk(b"IEND", b"")


def png(
    rows: bytes = ROWS, *, header: bytes = HEADER, before: bytes = b"", stream_end: bytes = b"", after: bytes = b""
) -> bytes:
    return SIGNATURE + header + before + chunk(b"IDAT", zlib.compress(rows) + stream_end) + END + after


def with_text() -> bytes:
    file, text = io.BytesIO(), PngImagePlugin.PngInfo()
    text.add_text("comment", "a patient's picture, in base64", zip=True)
    Image.fromarray(PIXELS).save(file, "PNG", pnginfo=text)
    return file.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "frames of an animation": animated,
    "a text": with_text,
    "a level that is transparent": lambda: png(before=chunk(b"tRNS", b"\0\7")),
    "a gamma": lambda: png(before=chunk(b"gAMA", struct.pack(">I", 9_000_000))),
    "a private chunk": lambda: png(before=chunk(b"paTt", b"anything")),
    "bytes after the end": lambda: png(after=b"anything"),
    "a second picture after the end": lambda: png(after=png()),
    "a chunk after the end": lambda: png(after=chunk(b"tEXt", b"a\0b")),
    "rows beyond the last": lambda: png(ROWS + ROWS),
    "bytes after the rows": lambda: png(stream_end=b"anything"),
    "something in the end itself": lambda: png()[: -len(END)] + chunk(b"IEND", b"anything"),
    "a row too few": lambda: png(ROWS[:-33]),
    "a wrong checksum": lambda: png()[:-1] + b"\0",
    "a gigabyte of zeros": lambda: png(bytes(1 << 26)),
    "an enormous size": lambda: png(header=chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 31, 1 << 31, 8, 0, 0, 0, 0))),
    "an interlaced picture": lambda: png(header=chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 1))),
    "a palette": lambda: png(header=chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 3, 0, 0, 0))),
}


def test_a_plain_picture_is_read_as_every_program_reads_it() -> None:
    np.testing.assert_array_equal(plain_grey(png()), PIXELS)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png()))), PIXELS)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_holds_anything_else_is_refused(what: str) -> None:
    with pytest.raises(IntegrityError):
        plain_grey(HOSTILE[what]())
