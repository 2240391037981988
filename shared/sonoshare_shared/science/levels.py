"""The one way to eight bits, for pictures of any source: fractions are rounded, deeper levels lose their lower bits.

Every step is public and the same for all pictures: no stretch, no statistic of the picture itself, but for one. Values
of 8, 10 or 12 bits in a container of 16 are told by the largest of them: writers seldom say so.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GREY_MODES: Final = ("1", "L", "LA")
DEEP_MODES: Final = ("I;16", "I;16B", "I")
"""Pillow's names of pictures that are grey, and of those with 16 bits a pixel."""
COLOUR_MODES: Final = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_WHITE: Final = 255
_USUAL_BITS: Final = (8, 10, 12)


def eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Levels in 0..1 (clipped), of any shape, rounded to the nearest of 256."""
    return np.asarray(np.rint(np.clip(values, 0.0, 1.0) * _WHITE), dtype=np.uint8)


def fractions(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Levels of eight bits, of any shape, in 0..1."""
    return levels.astype(np.float32) / np.float32(_WHITE)


def leading_eight_bits(levels: NDArray[Any], stored: int) -> NDArray[np.uint8]:
    """Levels of ``stored`` bits, by a shift; bits above the stored ones (overlays) are cleared."""
    kept = levels & ((1 << stored) - 1)
    shifted = kept >> (stored - 8) if stored > 8 else kept << (8 - stored)
    return np.asarray(shifted, dtype=np.uint8)


def used_bits(levels: NDArray[Any], stored: int) -> int:
    """How many of the stored bits are used: 8, 10, 12 or all of them, by the largest level."""
    largest = int(levels.max(initial=0))
    return next((bits for bits in _USUAL_BITS if bits < stored and largest < 1 << bits), stored)


def luma(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey levels [H, W] of RGB levels [H, W, 3 or more]."""
    return np.asarray(np.rint(colours[..., :3].astype(np.float32) @ _LUMA), dtype=np.uint8)


def grey_levels(picture: Image.Image) -> NDArray[np.uint8]:
    """Grey levels of an open picture, uint8 [H, W]; of deeper levels the leading eight used bits, of colours luma."""
    if picture.mode in DEEP_MODES:  # Pillow's own conversion would saturate
        levels = np.clip(np.asarray(picture), 0, 0xFFFF)
        return leading_eight_bits(levels, used_bits(levels, 16))
    # Over RGB, so that a palette's index is never mistaken for a grey level.
    grey = picture if picture.mode in GREY_MODES else picture.convert("RGB")
    return np.asarray(grey.convert("L"), dtype=np.uint8)
