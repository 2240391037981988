"""Is there text in a picture? A quick look, so that the slow one is had only where it may find something.

Letters are strokes: thin, and brighter than what lies on both sides of them, by more than anything else in the picture
is; or darker. Many of them stand in one small square. Speckle has thin bright spots as well; how strong they usually
are is measured in the picture itself.

Promise: some milliseconds for a picture of usual size. Not promised: that every text is seen (how many are:
docs/measurements/intake.md), nor that there is text where this says so; calipers and coarse speckle look like it, too.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_REACH: Final = 3
"""How far on both sides of a stroke the ground is looked at, pixels: strokes of up to five."""
_USUAL: Final = 75
"""Percentile of the contrasts of a picture that counts as usual."""
_TIMES_USUAL: Final = 3.5
_FAINTEST: Final = 20.0
"""Contrast that a stroke has at least, grey levels."""
_BLOCK: Final = 8
"""Half the side of the squares in which strokes are counted, pixels; as many as a byte has bits."""
_BRIGHT_SHARE: Final = 0.025
_DARK_SHARE: Final = 0.045
"""Share of a square that is stroke where there is text; dark specks are more usual than bright ones."""
_SPARSE: Final = 3
"""The usual contrast is taken from every third pixel of every third row."""


def text_is_likely(grey: NDArray[np.uint8]) -> bool:
    """Whether a picture is worth a slow look for text.

    Args:
        grey: uint8 [H, W].
    """
    levels = grey.astype(np.int16)
    return _has_strokes(levels) or _has_strokes(_halved(levels))


def _has_strokes(levels: NDArray[np.int16]) -> bool:
    if min(levels.shape) <= 2 * (_REACH + _BLOCK):
        return False
    inside = slice(_REACH, -_REACH)
    before, after, here = slice(None, -2 * _REACH), slice(2 * _REACH, None), levels[inside, inside]
    sides = ((levels[inside, before], levels[inside, after]), (levels[before, inside], levels[after, inside]))
    return _dense(here, sides, bright=True) > _BRIGHT_SHARE or _dense(here, sides, bright=False) > _DARK_SHARE


def _dense(
    here: NDArray[np.int16], sides: tuple[tuple[NDArray[np.int16], NDArray[np.int16]], ...], *, bright: bool
) -> float:
    """The largest share of strokes in a square."""
    strokes = np.zeros(here.shape, np.bool_)
    for one, other in sides:
        contrast = here - np.maximum(one, other) if bright else np.minimum(one, other) - here
        strokes |= contrast > max(_FAINTEST, _TIMES_USUAL * _usual(np.abs(contrast[::_SPARSE, ::_SPARSE])))
    rows, columns = here.shape[0] // _BLOCK, here.shape[1] // _BLOCK
    # Eight pixels of a row are a byte, whose bits are counted: a block is as wide as a byte has bits.
    counted = np.bitwise_count(np.packbits(strokes[: rows * _BLOCK, : columns * _BLOCK], axis=1))
    blocks = np.add.reduce(counted.reshape(rows, _BLOCK, columns), axis=1, dtype=np.int64)
    pairs = blocks[:-1] + blocks[1:]
    return float((pairs[:, :-1] + pairs[:, 1:]).max()) / (2 * _BLOCK) ** 2


def _usual(contrasts: NDArray[np.int16]) -> float:
    """The percentile of some contrasts, 0 to 255, counted instead of sorted."""
    upto = np.cumsum(np.bincount(contrasts.ravel()))
    place = (contrasts.size - 1) * _USUAL / 100
    below, above = np.searchsorted(upto, (np.floor(place), np.ceil(place)), side="right")
    return float(below + (above - below) * (place % 1))


def _halved(levels: NDArray[np.int16]) -> NDArray[np.int16]:
    """Large letters, made small."""
    rows, columns = (side // 2 * 2 for side in levels.shape)
    even = levels[:rows, :columns]
    return np.asarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) // 4)
