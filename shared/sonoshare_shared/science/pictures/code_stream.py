"""What compressed data says of itself, read from its first bytes: size, samples, depth, colour.

Headers are written by one program and code streams by another; where they disagree, the stream is what decodes.
JPEG (ITU-T T.81, with the JFIF and Adobe markers), JPEG-LS (T.87), JPEG 2000 and HTJ2K (T.800, T.814). Nothing is
decompressed here.
"""

import struct
from dataclasses import dataclass, replace
from typing import Final

RGB: Final = "RGB"
YBR: Final = "YBR"
DCT: Final = "JPEG"
LOSSLESS: Final = "JPEG lossless"
JPEG_LS: Final = "JPEG-LS"
JPEG_2000: Final = "JPEG 2000"

JPEG_START: Final = b"\xff\xd8\xff"
J2K_START: Final = b"\xff\x4f\xff\x51"
JP2_START: Final = b"\x00\x00\x00\x0cjP"
STARTS: Final = (JPEG_START, J2K_START, JP2_START)
"""First bytes of a code stream."""

_FRAME_MARKERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_KINDS: Final = {0xC3: LOSSLESS, 0xF7: JPEG_LS}
_SCAN: Final = 0xDA
_JFIF: Final = 0xE0
_ADOBE: Final = 0xEE
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_RGB_IDS: Final = b"RGB"


@dataclass(frozen=True)
class CodeStream:
    """What the stream says.

    Attributes:
        kind: DCT, LOSSLESS, JPEG_LS or JPEG_2000.
        rows: pixels.
        columns: pixels.
        samples: components.
        precision: bits of a sample.
        colour: RGB or YBR as the stream tells, or None where it does not.
        certain: the stream could not be decoded otherwise, or says so in so many words; else it is a convention.
        library_ybr: libjpeg takes the stream to be YBR.
        signed: samples are signed.
    """

    kind: str
    rows: int
    columns: int
    samples: int
    precision: int
    colour: str | None = None
    certain: bool = False
    library_ybr: bool = False
    signed: bool = False


def read_code_stream(data: bytes) -> CodeStream | None:
    """What a JPEG, JPEG-LS or JPEG 2000 stream says of itself; None where it is none of them, or cut short."""
    try:
        if data.startswith(JPEG_START):
            return _jpeg(data)
        place = data.find(J2K_START, 0, 4096)
        return _jpeg_2000(data, place) if place >= 0 and data.startswith((J2K_START, JP2_START)) else None
    except (struct.error, IndexError):
        return None


def _jpeg(data: bytes) -> CodeStream | None:
    place, adobe, jfif = 2, None, False
    frame: CodeStream | None = None
    identifiers, sampling = b"", b""
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF or marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        body = data[place + 4 : place + 2 + length]
        if marker == _JFIF and body.startswith(b"JFIF"):
            jfif = True
        elif marker == _ADOBE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        elif marker in _FRAME_MARKERS:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", body)
            identifiers, sampling = body[6::3][:samples], body[7::3][:samples]
            kind = _KINDS.get(marker, DCT)
            frame = CodeStream(kind, rows, columns, samples, precision)
            if kind != DCT:
                return frame  # T.81 lossless and T.87 know no colour transform
        elif marker == _SCAN:
            break
        place += 2 + length
    if frame is None or frame.samples != 3:
        return frame
    colour, certain = _jpeg_colour(adobe, identifiers, sampling, jfif=jfif)
    by_library = (adobe != 0) if adobe is not None and not jfif else (jfif or identifiers != _RGB_IDS)
    return replace(frame, colour=colour, certain=certain, library_ybr=by_library)


def _jpeg_colour(adobe: int | None, identifiers: bytes, sampling: bytes, *, jfif: bool) -> tuple[str | None, bool]:
    """Colour of three components, and whether it is certain."""
    if sampling[0] != sampling[1] and sampling[1] == sampling[2]:
        return YBR, True  # only colour differences are stored more coarsely
    if identifiers == _RGB_IDS:
        return RGB, True
    if adobe is not None:
        return (YBR if adobe else RGB), True
    return (YBR, False) if jfif else (None, False)


def _jpeg_2000(data: bytes, start: int) -> CodeStream:
    place = start + 2
    _, _, width, height, left, top = struct.unpack_from(">HHIIII", data, place + 2)
    (samples,) = struct.unpack_from(">H", data, place + 38)
    depth = data[place + 40]
    colour = None
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0x90:
        (length,) = struct.unpack_from(">H", data, place + 2)
        if data[place + 1] == 0x52 and samples == 3 and data[place + 8]:
            colour = RGB  # the component transform is undone by every decoder
        place += 2 + length
    return CodeStream(
        kind=JPEG_2000,
        rows=height - top,
        columns=width - left,
        samples=samples,
        precision=(depth & 0x7F) + 1,
        colour=colour,
        certain=colour is not None,
        signed=bool(depth & 0x80),
    )
