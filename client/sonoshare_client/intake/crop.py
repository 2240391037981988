"""Child: cut a picture to its ultrasound region, and move box and mask with it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoshare_client.intake.reasons import Reason, Refused
from sonoshare_client.vault.stored_image import Box
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.imaging import box_fractions, box_of_mask


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

    def holds(self, box: Box) -> bool:
        """Whether a box in pixels of the whole picture lies inside, give or take a pixel."""
        x, y, w, h = box
        return x >= self.left - 1 and y >= self.top - 1 and x + w <= self.right + 1 and y + h <= self.bottom + 1


def lesion_box(box: Box | None, mask: NDArray[np.uint8] | None) -> Box | None:
    """The box to go by, in pixels: the given one, else the bounds of the mask, else None."""
    if box is not None or mask is None:
        return box
    bounds = box_of_mask(mask)
    if bounds is None:
        return None
    height, width = mask.shape
    return bounds[0] * width, bounds[1] * height, bounds[2] * width, bounds[3] * height


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
        kept_mask = lesion[window].astype(np.uint8)
        if int(kept_mask.sum()) != int(np.count_nonzero(lesion)):
            raise Refused(Reason.MASK_OUTSIDE)
    given = lesion_box(box, mask)
    fractions: Box | None = None
    if given is not None:
        moved = (given[0] - region.left, given[1] - region.top, given[2], given[3])
        try:
            fractions = box_fractions(moved, region.width, region.height)
        except InputError as error:
            raise Refused(Reason.BOX) from error
    return np.ascontiguousarray(pixels[window]), kept_mask, fractions
