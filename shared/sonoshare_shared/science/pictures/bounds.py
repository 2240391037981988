"""What one picture file may be before it is refused."""

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """What a file and its picture may be. The first are checked before the thing that they bound is done.

    Attributes:
        clip_bytes: largest file that is opened; of a DICOM object one frame at a time is read.
        file_bytes: largest file of another kind, and most bytes of one compressed frame.
        inflated_bytes: most bytes that a deflated data set may grow to.
        side: longest side of a picture, pixels; more than any ultrasound system draws.
        pixels: most pixels of a picture.
        region_side: shortest side of an ultrasound region that is worth keeping, pixels.
        kept_side: shortest side of what is kept of any picture, pixels.
        aspect: longest side of what is kept over its shortest; panoramic views have up to four.
        coloured: largest share of coloured pixels in what is kept; calipers and captions take up less.
        varied: least share of pixels that differ from the commonest level of a picture.
        levels: least number of grey levels of a picture.
        screen_side: shortest side of a PNG or JPEG that may be a whole screen, pixels.
        clip_frames: most pictures that are taken of one file, a clip or a dual view.
    """

    clip_bytes: int = 65536 * MIB
    file_bytes: int = 256 * MIB
    inflated_bytes: int = 128 * MIB
    side: int = 4096
    pixels: int = 4096 * 4096
    region_side: int = 32
    kept_side: int = 32
    aspect: float = 6.0
    coloured: float = 0.03
    varied: float = 0.01
    levels: int = 8
    screen_side: int = 400
    clip_frames: int = 4


DEFAULT_BOUNDS: Final = Bounds()
"""Of patients' pictures."""
SYNTHETIC_BOUNDS: Final = Bounds(
    kept_side=1, aspect=float("inf"), coloured=1.0, varied=0.0, levels=1, screen_side=Bounds.side + 1
)
"""Of generated pictures, which are judged as they are."""
