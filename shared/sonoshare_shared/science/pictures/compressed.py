"""Compressed pixel data of DICOM objects: fragments by frame, decoded by Pillow, gdcm, openjpeg and pydicom.

Promises
- Only the frame that is asked for is read, and it is at most as large as the bound of a file.
- Before a frame is decoded, what its code stream says is checked against the header.
- Samples come as stored: no decoder converts colours.
- What a decoder raises on broken content is the caller's business.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from sonoshare_shared.science.pictures import code_stream
from sonoshare_shared.science.pictures.bounds import Bounds
from sonoshare_shared.science.pictures.code_stream import CodeStream, read_code_stream
from sonoshare_shared.science.pictures.pixel_description import PixelDescription
from sonoshare_shared.science.pictures.pixel_file import FileBytes, fragments
from sonoshare_shared.science.pictures.reasons import Reason, Refused

COMPRESSED: Final = frozenset(
    {
        RLELossless,
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEGLSNearLossless,
        JPEG2000Lossless,
        JPEG2000,
        HTJ2KLossless,
        HTJ2KLosslessRPCL,
        HTJ2K,
    }
)
# What neither Pillow nor openjpeg decode, by the kind of the code stream. A stream says more than its syntax.
_GDCM_SYNTAX: Final = {
    code_stream.LOSSLESS: JPEGLossless,
    code_stream.JPEG_LS: JPEGLSNearLossless,
}


@dataclass(frozen=True, eq=False)
class CompressedPixels:
    """Compressed pixel data, a list of fragments for each frame; read when a frame is asked for."""

    description: PixelDescription
    fragments: Sequence[Sequence[FileBytes]]
    syntax: UID
    bounds: Bounds

    @property
    def frames(self) -> int:
        """How many frames there are; where that are fewer than the header says, the file was cut."""
        if len(self.fragments) < (self.description.frames or 1):
            raise Refused(Reason.PIXEL_LENGTH)
        return len(self.fragments)

    def stream(self, index: int) -> CodeStream | None:
        """What a frame's code stream says; None where its compression has no header."""
        if self.syntax == RLELossless:
            return None
        stream, seen = read_code_stream(self._data(index)), self.description
        if stream is None:
            raise Refused(Reason.BROKEN)
        if (stream.rows, stream.columns, stream.samples) != (seen.rows, seen.columns, seen.samples):
            raise Refused(Reason.CONTRADICTION)
        if stream.signed or not 1 <= stream.precision <= 16:
            raise Refused(Reason.BITS)
        return stream

    def samples(self, index: int) -> NDArray[Any]:
        """Samples of a frame as stored, without any conversion of colours, [H, W] or [H, W, 3]."""
        data, stream = self._data(index), self.stream(index)
        if stream is None:
            # pylibjpeg-rle aborts on a lying header: RLE goes through pydicom's own decoder.
            return self._by_pydicom(data, RLELossless, "pydicom", self.description.allocated, self.description.stored)
        if stream.kind == code_stream.JPEG_2000:
            return _by_openjpeg(data)
        if stream.kind == code_stream.DCT and stream.precision == 8:
            return _by_pillow(data, stream)
        if stream.kind not in _GDCM_SYNTAX:
            raise Refused(Reason.SYNTAX)  # 12 bits in DCT: neither Pillow nor gdcm decode them rightly
        allocated = 8 if stream.precision <= 8 else 16
        return self._by_pydicom(data, _GDCM_SYNTAX[stream.kind], "gdcm", allocated, stream.precision)

    def _data(self, index: int) -> bytes:
        pieces = self.fragments[index]
        if sum(piece.length for piece in pieces) > self.bounds.file_bytes:
            raise Refused(Reason.TOO_LARGE)
        return b"".join(piece.part(0, piece.length) for piece in pieces)

    def _by_pydicom(self, data: bytes, syntax: UID, plugin: str, allocated: int, stored: int) -> NDArray[Any]:
        decoder, seen = get_decoder(syntax), self.description
        if plugin not in decoder.available_plugins:
            raise Refused(Reason.NO_DECODER)
        options: dict[str, Any] = {
            "rows": seen.rows,
            "columns": seen.columns,
            "number_of_frames": 1,
            "samples_per_pixel": seen.samples,
            # Whatever the header says: no decoder is to convert colours.
            "photometric_interpretation": "RGB" if seen.samples == 3 else "MONOCHROME2",
            "pixel_representation": 0,
            "pixel_keyword": "PixelData",
            "bits_allocated": allocated,
            "bits_stored": stored,
        }
        if seen.samples == 3:
            options["planar_configuration"] = 0
        levels, _ = decoder.as_array(encapsulate([data]), index=0, raw=True, decoding_plugin=plugin, **options)
        return levels


def fragments_by_frame(value: FileBytes, syntax: UID) -> list[list[FileBytes]]:
    """Fragments by frame: a frame begins where a code stream begins; of RLE each fragment is one."""
    frames: list[list[FileBytes]] = []
    longest = max(map(len, code_stream.STARTS))
    for fragment in fragments(value):
        if syntax == RLELossless or not frames or fragment.part(0, longest).startswith(code_stream.STARTS):
            frames.append([fragment])
        else:
            frames[-1].append(fragment)
    return frames


def _by_openjpeg(data: bytes) -> NDArray[Any]:
    try:
        from openjpeg.utils import decode  # noqa: PLC0415 - the server's extra has none
    except ModuleNotFoundError as error:
        raise Refused(Reason.NO_DECODER) from error
    return np.asarray(decode(data))


def _by_pillow(data: bytes, stream: CodeStream) -> NDArray[Any]:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        if stream.library_ybr:
            picture.draft("YCbCr", picture.size)  # as stored
        return np.asarray(picture)
