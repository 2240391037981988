"""Where on a screen the ultrasound picture is, for pictures whose file does not say.

PNG and JPEG exports and secondary captures have no ultrasound regions. Around their fan or frame stand names, dates,
rulers, a grey bar, a logo, whole panels. All of those are drawn: thin, or on a flat ground. The picture itself is
speckle: hardly a pixel equals its neighbours, over a large area in one piece.

Promise: the box returned holds one such area, the only large one. Lines of text, rulers and grey bars that stand clear
of it lie outside the box, or in a corner that a fan leaves free. None where that cannot be told: no large area of
speckle, or several.

Not promised: that no text lies in the box. What is kept of a picture is looked through for text (``text``).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.box import Box

_LONG_SIDE: Final = 512
"""Screens are looked at in about this size, pixels."""
_FLAT: Final = 1
"""Grey levels by which the neighbours of a pixel may differ where nothing but a ground is drawn."""
_SMOOTHED: Final = 9
"""Side of the square in which at least half of the pixels must be speckle, pixels of the reduced screen."""
_THICKEST_TEXT: Final = 1 / 14
"""Of the screen's shorter side: what is thinner is text, a ruler or a bar. Two lines of usual size are."""
_SMALLEST: Final = 0.06
"""Part of the screen that a picture covers at least."""
_RIVAL: Final = 0.25
"""A second area of this part of the largest one makes it two pictures."""
_FILLED: Final = 0.45
"""Part of its box that a fan or frame covers; a full sector of 90 degrees covers 0.64."""
_SHORTEST_PX: Final = 32
"""No picture is smaller, pixels of the file."""


def field_of_view(grey: NDArray[np.uint8]) -> Box | None:
    """Find the fan or frame of an ultrasound picture on a screen.

    Args:
        grey: uint8 [H, W], the whole screen.

    Returns:
        Its bounds in whole pixels of the screen, or None where there is no picture, or not just one.
    """
    step = max(1, -(-max(grey.shape) // _LONG_SIDE))
    areas = _speckled_areas(grey, step)
    if not areas:
        return None
    largest, *others = sorted(areas, key=np.count_nonzero, reverse=True)
    size = int(np.count_nonzero(largest))
    if size < _SMALLEST * largest.size or any(np.count_nonzero(other) > _RIVAL * size for other in others):
        return None
    rows, columns = np.flatnonzero(largest.any(axis=1)), np.flatnonzero(largest.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if size < _FILLED * (bottom - top) * (right - left):
        return None
    x, y = left * step, top * step
    width, height = min(right * step, grey.shape[1]) - x, min(bottom * step, grey.shape[0]) - y
    return Box(x, y, width, height) if min(width, height) >= _SHORTEST_PX else None


def _speckled_areas(grey: NDArray[np.uint8], step: int) -> list[NDArray[np.bool_]]:
    """Areas of speckle in one piece and without holes, bool, each on the screen reduced by ``step``."""
    from scipy import ndimage  # noqa: PLC0415 - slow to load, and most pictures have regions

    busy = ndimage.maximum_filter(grey, 3).astype(np.int16) - ndimage.minimum_filter(grey, 3) > _FLAT
    solid = ndimage.uniform_filter(_reduced(busy, step), _SMOOTHED, mode="nearest") >= 0.5
    # A shadow or a cyst is black, and a hole; beyond the screen's edge the picture is thought to go on.
    solid = ndimage.binary_fill_holes(solid)
    thick = max(_SMOOTHED, round(_THICKEST_TEXT * min(solid.shape)) | 1)
    cores = ndimage.minimum_filter(solid, thick, mode="nearest")
    labels, count = ndimage.label(cores)
    # Grown back into the corners of a fan, and no further along what touches it.
    return [ndimage.binary_dilation(labels == number, iterations=thick, mask=solid) for number in range(1, count + 1)]


def _reduced(busy: NDArray[np.bool_], step: int) -> NDArray[np.float32]:
    """Shares of busy pixels in blocks of ``step`` by ``step``; blocks at the right and lower edge may be partial."""
    values = busy.astype(np.float32)
    if step == 1:
        return values
    height, width = (-(-side // step) * step for side in values.shape)
    padded = np.pad(values, ((0, height - values.shape[0]), (0, width - values.shape[1])), mode="edge")
    return np.asarray(padded.reshape(height // step, step, width // step, step).mean(axis=(1, 3)))
