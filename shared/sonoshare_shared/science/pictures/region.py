"""Which ultrasound region of a picture is kept; the picture cut to it, and box and mask moved with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.imaging import box_of_mask
from sonoshare_shared.science.pictures.reasons import Reason, Refused

_MUCH_LARGER: Final = 2.0
"""Area over the next one's from which a picture is the main one, and the others insets."""
_ALIKE: Final = 0.1
"""Part of a side by which the two pictures of a dual view may differ in size, or in height on the screen."""


@dataclass(frozen=True)
class Region:
    """A rectangle of pixels: columns ``left <= x < right``, rows ``top <= y < bottom``."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    def holds(self, box: Box, slack: float = 1) -> bool:
        """Whether a box in pixels of the whole picture lies inside, give or take a pixel."""
        x, y, w, h = box
        across = x >= self.left - slack and x + w <= self.right + slack
        return across and y >= self.top - slack and y + h <= self.bottom + slack


def pick_region(regions: Sequence[Region], box: Box | None) -> Region:
    """The region to keep: the only one, the only one that holds the lesion box, or the one much larger than the rest.

    Args:
        regions: B-mode regions of a picture, at least one.
        box: lesion box in pixels of the whole picture, or None.
    """
    if len(regions) == 1:
        return regions[0]
    if box is not None:
        holding = [region for region in regions if region.holds(box)]
        if len(holding) != 1:
            raise Refused(Reason.SEVERAL_REGIONS)
        return holding[0]
    largest, second, *_ = sorted(regions, key=lambda region: region.width * region.height, reverse=True)
    if largest.width * largest.height < _MUCH_LARGER * second.width * second.height:
        raise Refused(Reason.SEVERAL_REGIONS)
    return largest


def dual_view(regions: Sequence[Region]) -> tuple[Region, ...]:
    """Two pictures of one size side by side, the left one first; empty where a screen shows anything else."""
    if len(regions) != 2:
        return ()
    left, right = sorted(regions, key=lambda region: region.left)
    near_width = _ALIKE * max(left.width, right.width)
    near_height = _ALIKE * max(left.height, right.height)
    one_size = abs(left.width - right.width) <= near_width and abs(left.height - right.height) <= near_height
    beside = left.right <= right.left and abs(left.top - right.top) <= near_height
    return (left, right) if one_size and beside else ()


def lesion_box(box: Box | None, mask: NDArray[np.uint8] | None) -> Box | None:
    """The box to go by, in pixels: the given one, else the bounds of the mask, else None."""
    return box_of_mask(mask) if box is None and mask is not None else box


def cut(
    pixels: NDArray[np.uint8], mask: NDArray[np.uint8] | None, box: Box | None, region: Region
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, Box | None]:
    """Cut pixels and mask to a region.

    Args:
        pixels: uint8 [H, W].
        mask: uint8 [H, W], non-zero in the lesion, or None.
        box: lesion box in pixels of the whole picture, or None: then the mask's bounds.
        region: what to keep.

    Returns:
        Pixels, mask (0 and 1) and box in fractions of what is kept.

    Raises:
        Refused: box or mask do not lie in the region.
    """
    window = np.s_[region.top : region.bottom, region.left : region.right]
    kept_mask: NDArray[np.uint8] | None = None
    if mask is not None:
        if mask.shape != pixels.shape:
            raise Refused(Reason.MASK_SIZE)
        lesion = mask != 0
        if box is not None and not lesion.any():
            raise Refused(Reason.MASK_EMPTY)
        kept_mask = lesion[window].astype(np.uint8)
        if int(kept_mask.sum()) != int(np.count_nonzero(lesion)):
            raise Refused(Reason.MASK_OUTSIDE)
    given = lesion_box(box, mask)
    fractions: Box | None = None
    if given is not None:
        try:
            fractions = given.moved(-region.left, -region.top).fractions(region.width, region.height)
        except InputError as error:
            raise Refused(Reason.BOX) from error
    return np.ascontiguousarray(pixels[window]), kept_mask, fractions
