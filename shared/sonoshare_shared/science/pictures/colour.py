"""Three samples a pixel: which colours they are, and whether colour lies over a picture.

Which colours: what the code stream is certain of, what the values show, what it says by convention, what the header
says, in this order. Nearly all of an ultrasound screen is grey or black. Grey looks grey under the right reading alone:
equal samples as RGB, differences of 128 as YBR. Where two certain things contradict each other, nobody guesses.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.pictures.code_stream import RGB, YBR, CodeStream
from sonoshare_shared.science.pictures.reasons import Reason, Refused

_NEUTRAL: Final = 16
"""Levels by which the samples of a grey pixel may differ."""
_SHARE: Final = 0.3
"""Share of grey pixels from which on values decide, if it is at least twice that of the other reading."""
_COLOURED: Final = 40
"""Levels by which a pixel differs from the picture's own tint where it is coloured."""
_DARK: Final = 16
"""Level up to which a pixel shows no tint."""


def to_rgb(samples: NDArray[np.uint8], declared: str, stream: CodeStream | None) -> NDArray[np.uint8]:
    """RGB levels of three samples a pixel.

    Args:
        samples: uint8 [H, W, 3], as decoded, without any conversion of colours.
        declared: what the header says, RGB or YBR.
        stream: what the code stream says, or None.

    Raises:
        Refused: what is certain contradicts itself.
    """
    seen = _by_values(samples)
    if stream is not None and stream.colour is not None and stream.certain:
        if seen is not None and seen != stream.colour:
            raise Refused(Reason.CONTRADICTION)
        reading = stream.colour
    elif seen is not None:
        reading = seen
    elif stream is not None and stream.colour is not None and stream.colour != declared:
        raise Refused(Reason.CONTRADICTION)
    else:
        reading = declared
    return from_ybr(samples) if reading == YBR else samples


def _by_values(samples: NDArray[np.uint8]) -> str | None:
    first, second, third = (samples[..., k].astype(np.int16) for k in range(3))
    spread = np.maximum(np.maximum(first, second), third) - np.minimum(np.minimum(first, second), third)
    rgb = float((spread <= _NEUTRAL).mean())
    ybr = float(((abs(second - 128) <= _NEUTRAL) & (abs(third - 128) <= _NEUTRAL)).mean())
    if max(rgb, ybr) < _SHARE or max(rgb, ybr) < 2 * min(rgb, ybr):
        return None
    return RGB if rgb > ybr else YBR


def from_ybr(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB of full-range YBR (ITU-R BT.601; DICOM PS3.3 C.7.6.3.1.2), uint8 [H, W, 3]."""
    values = samples.astype(np.float32)
    y, blue, red = values[..., 0], values[..., 1] - 128, values[..., 2] - 128
    rgb = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=-1)
    return np.asarray(np.rint(np.clip(rgb, 0, 255)), dtype=np.uint8)


def coloured_share(rgb: NDArray[np.uint8]) -> float:
    """Share of pixels that are coloured, of RGB levels [H, W, 3].

    A map that tints the whole picture (sepia, blue) is no colour over it: a pixel is compared with the picture's usual
    tint, which grows with brightness.
    """
    red, green, blue = (rgb[..., k].astype(np.float32).ravel() for k in range(3))
    level = (red + green + blue) / 3
    bright = level > _DARK
    if not bright.any():
        return 0.0
    coloured = np.zeros(level.shape, np.bool_)
    for difference in (red - green, blue - green):
        tint = np.median(difference[bright] / level[bright])
        coloured |= np.abs(difference - tint * level) > _COLOURED
    return float(coloured.mean())
