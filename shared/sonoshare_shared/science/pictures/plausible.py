"""After decoding: can this be an ultrasound picture at all? What cannot is set aside, each with its own reason.

A decoder, a header and a file can all be in order and the picture still be black. Black pictures of two patients look
like one person to a search for twins, and teach a model nothing.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.pictures.bounds import Bounds
from sonoshare_shared.science.pictures.reasons import Reason, Refused

_NEAR: Final = 4
"""Grey levels within which a pixel is taken to be of the commonest level."""
_TWO_LEVEL: Final = 0.98
"""Share of pixels near the darkest or the brightest level that makes a picture a drawing, a text or a mask."""


def check_plausible(pixels: NDArray[np.uint8], bounds: Bounds) -> None:
    """Refuse what is no picture.

    Args:
        pixels: uint8 [H, W], what is kept.
        bounds: what is plausible.

    Raises:
        Refused: too small, a strip, blank, or of hardly more than two grey levels.
    """
    shortest, longest = sorted(pixels.shape)
    if shortest < bounds.kept_side:
        raise Refused(Reason.SMALL)
    if longest > bounds.aspect * shortest:
        raise Refused(Reason.SHAPE)
    counts = np.bincount(pixels.ravel(), minlength=256)
    if 1.0 - _near(counts, int(counts.argmax())) < bounds.varied:
        raise Refused(Reason.BLANK)
    present = np.flatnonzero(counts)
    ends = _near(counts, int(present[0])) + _near(counts, int(present[-1]))
    if len(present) < bounds.levels or (bounds.levels > 1 and ends > _TWO_LEVEL and _near(counts, 255) > bounds.varied):
        raise Refused(Reason.FEW_LEVELS)


def _near(counts: NDArray[np.int64], level: int) -> float:
    """Share of pixels within a few levels of one."""
    return float(counts[max(0, level - _NEAR) : level + _NEAR + 1].sum() / counts.sum())
