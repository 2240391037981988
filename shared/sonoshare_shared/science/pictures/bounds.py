"""What one picture file may be before it is refused."""

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """Checked before the thing that they bound is allocated or done.

    Attributes:
        file_bytes: largest file that is opened.
        side: longest side of a picture, pixels; more than any ultrasound system draws.
        pixels: most pixels of a picture.
        region_side: shortest side of an ultrasound region that is worth keeping, pixels.
    """

    file_bytes: int = 256 * MIB
    side: int = 4096
    pixels: int = 4096 * 4096
    region_side: int = 32


DEFAULT_BOUNDS: Final = Bounds()
