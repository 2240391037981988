"""What a DICOM header says about its pixels, checked for sense before anything is decoded; native pixels by it.

The length of native pixel data decides how many frames there are and, for YBR_FULL_422, whether two or three bytes make
a pixel. A count of 0, a blank or an absent one says nothing. A count that promises more than is there is refused.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.pictures.bounds import Bounds
from sonoshare_shared.science.pictures.code_stream import CodeStream
from sonoshare_shared.science.pictures.pixel_file import FileBytes
from sonoshare_shared.science.pictures.reasons import Reason, Refused

PALETTE: Final = "PALETTE COLOR"
SUBSAMPLED: Final = "YBR_FULL_422"
_SAMPLES: Final = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    PALETTE: 1,
    "RGB": 3,
    "YBR_FULL": 3,
    SUBSAMPLED: 3,
    "YBR_RCT": 3,
    "YBR_ICT": 3,
}


@dataclass(frozen=True)
class PixelDescription:
    """The header's pixel description.

    Attributes:
        rows: pixels.
        columns: pixels.
        samples: of a pixel, 1 or 3.
        photometric: photometric interpretation.
        allocated: bits of a sample, 8 or 16.
        stored: bits of a sample that are used.
        planar: planes of colour follow each other.
        frames: the count, or None where the header has none that can be.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    planar: bool
    frames: int | None


def describe(dataset: Any, bounds: Bounds) -> PixelDescription:
    """Check and return the pixel description of a data set.

    Raises:
        Refused: too large, or without sense.
    """
    rows, columns = number(dataset, "Rows"), number(dataset, "Columns")
    if not (0 < rows <= bounds.side and 0 < columns <= bounds.side and rows * columns <= bounds.pixels):
        raise Refused(Reason.DIMENSIONS)
    photometric = text(dataset, "PhotometricInterpretation")
    samples = number(dataset, "SamplesPerPixel")
    if _SAMPLES.get(photometric) != samples:
        raise Refused(Reason.PHOTOMETRIC)
    allocated, stored = number(dataset, "BitsAllocated"), number(dataset, "BitsStored")
    if (
        allocated not in (8, 16)
        or not 1 <= stored <= allocated
        or number(dataset, "HighBit") != stored - 1
        or number(dataset, "PixelRepresentation") != 0
    ):
        raise Refused(Reason.BITS)
    frames = number(dataset, "NumberOfFrames")
    return PixelDescription(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        allocated=allocated,
        stored=stored,
        planar=number(dataset, "PlanarConfiguration") == 1,
        frames=frames if frames > 0 else None,
    )


@dataclass(frozen=True, eq=False)
class NativePixels:
    """Pixel data that is not compressed.

    Attributes:
        description: what the header says.
        data: its bytes, in the file.
        big: samples of 16 bits are big endian.
        swapped: bytes of 8-bit samples are swapped in pairs (big endian words).
    """

    description: PixelDescription
    data: FileBytes
    big: bool = False
    swapped: bool = False

    @property
    def _width(self) -> int:
        """Bytes of a pixel, times all of its samples."""
        seen = self.description
        if seen.photometric != SUBSAMPLED or seen.allocated != 8:
            return seen.samples * seen.allocated // 8
        whole = seen.rows * seen.columns * (seen.frames or 1)
        return 3 if self.data.length >= 3 * whole else 2

    @property
    def frames(self) -> int:
        """How many frames the data holds.

        Raises:
            Refused: fewer than the header says, or no whole number of several.
        """
        size = self.description.rows * self.description.columns * self._width
        whole, rest = divmod(self.data.length, size)
        if whole < (self.description.frames or 1):
            raise Refused(Reason.PIXEL_LENGTH)
        # Data is padded to an even length. A longer rest is no frame, and says nothing about others.
        return whole if rest <= 1 else self.description.frames or 1

    def stream(self, index: int) -> CodeStream | None:
        """Native pixels have no code stream."""

    def samples(self, index: int) -> NDArray[Any]:
        """Samples of one frame, [H, W] or [H, W, 3]."""
        seen, width = self.description, self._width
        size = seen.rows * seen.columns * width
        start = index * size
        frame = self._bytes(start, size)
        if seen.photometric == SUBSAMPLED and width == 2:
            return _unpacked_422(np.frombuffer(frame, np.uint8), seen)
        kind = np.dtype(np.uint8) if seen.allocated == 8 else np.dtype(">u2" if self.big else "<u2")
        levels = np.frombuffer(frame, kind)
        if seen.samples == 1:
            return levels.reshape(seen.rows, seen.columns)
        if seen.planar:
            return np.ascontiguousarray(levels.reshape(3, seen.rows, seen.columns).transpose(1, 2, 0))
        return levels.reshape(seen.rows, seen.columns, 3)

    def _bytes(self, start: int, size: int) -> bytes:
        if not self.swapped:
            return self.data.part(start, size)
        even = start - start % 2
        words = np.frombuffer(self.data.part(even, size + 4 - size % 2).ljust(size + 4, b"\0"), np.uint8)
        pairs = words[: len(words) // 2 * 2].reshape(-1, 2)[:, ::-1].tobytes()
        return pairs[start - even : start - even + size]


def _unpacked_422(values: NDArray[np.uint8], seen: PixelDescription) -> NDArray[np.uint8]:
    """YBR of bytes Y Y B R for each two pixels (PS3.3 C.7.6.3.1.2)."""
    if seen.columns % 2:
        raise Refused(Reason.PHOTOMETRIC)
    groups = values.reshape(seen.rows, seen.columns // 2, 4)
    ybr = np.empty((seen.rows, seen.columns, 3), np.uint8)
    ybr[..., 0] = groups[..., :2].reshape(seen.rows, seen.columns)
    ybr[..., 1:] = np.repeat(groups[..., 2:], 2, axis=1)
    return ybr


def number(dataset: Any, name: str) -> int:
    """An integer attribute; minus one where it is absent or not one."""
    try:
        return int(dataset.get(name))
    except (TypeError, ValueError, OverflowError):
        return -1


def text(dataset: Any, name: str) -> str:
    """A text attribute; empty where it is absent."""
    value = dataset.get(name)
    return "" if value is None else str(value).strip()
