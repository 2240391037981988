"""Pictures on the model's grid, and lesion boxes as fractions.

The one way in which images of any source (hospital, release, phantom) reach the model: grey levels in 0..1, resized to
a square by averaging over area. The aspect ratio is *not* kept; the lesion box is stored in fractions of the original
picture, so it stays right on the square. Also the one way to write and read the PNG files of a release.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sonoshare_shared.errors import InputError

MAX_SIDE = 16384
"""Largest side of a picture that is accepted, against decompression bombs."""
GREY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I;16", "I;16B", "I")
"""Pillow's names of pictures that are grey, and of those with 16 bits a pixel."""
BOX_SLACK_PX = 1.0
"""A box may reach this far over the border (annotators round outwards); it is clipped."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

Levels = TypeVar("Levels", bound=np.generic)


def _grey(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """Grey levels in 0..1 of an integer or float picture [H, W]."""
    if image.ndim != 2 or 0 in image.shape:
        raise InputError(f"a picture of shape {image.shape} is not [height, width]", remedy="give one grey picture")
    if np.issubdtype(image.dtype, np.integer):
        full_range = float(np.iinfo(image.dtype.str).max)
        return np.asarray(image, dtype=np.float32) / np.float32(full_range)
    if image.dtype == np.bool_:
        return np.asarray(image, dtype=np.float32)
    values = np.asarray(image, dtype=np.float32)
    if not np.isfinite(values).all():
        raise InputError("a picture contains values that are not finite", remedy="repair or drop it")
    return np.clip(values, 0.0, 1.0)


def _resize(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Area-averaged resize of [H, W] to [size, size]; bilinear where the picture is smaller than the grid."""
    if size < 1 or size > MAX_SIDE:
        raise InputError(f"cannot resize a picture to {size} px", remedy=f"use 1 to {MAX_SIDE} px")
    if values.shape == (size, size):
        return values.copy()
    picture = Image.fromarray(values)
    shrinks = min(values.shape) >= size
    filtered = picture.resize((size, size), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)
    return np.asarray(filtered, dtype=np.float32)


def to_grid(image: NDArray[np.generic], size: int) -> NDArray[np.float32]:
    """Bring a picture to the model's square grid.

    Args:
        image: grey picture [H, W], unsigned integer (full range) or float in 0..1.
        size: side of the grid in pixels.

    Returns:
        float32 [size, size] in 0..1; the aspect ratio is not kept.

    Raises:
        InputError: for another shape, or values that are not finite.
    """
    return np.clip(_resize(_grey(image), size), 0.0, 1.0)


def mask_to_grid(mask: NDArray[np.generic], size: int) -> NDArray[np.bool_]:
    """Bring a lesion mask to the square grid: a cell is lesion where more than half of it is.

    Args:
        mask: bool or integer [H, W], non-zero inside the lesion.
        size: side of the grid in pixels.

    Returns:
        bool [size, size].
    """
    return np.asarray(_resize(_grey(np.asarray(mask) != 0), size) > 0.5)


def box_fractions(box_px: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """Express a box in fractions of its picture.

    Args:
        box_px: x, y, width, height in pixels of the picture.
        width: width of the picture in pixels.
        height: height of the picture in pixels.

    Returns:
        x, y, width, height in 0..1, clipped to the picture.

    Raises:
        InputError: when the box is not four finite numbers, is empty, or lies over the border by more than a pixel.
    """
    if len(box_px) != 4 or not all(math.isfinite(value) for value in box_px):
        raise InputError("a box is not four numbers x,y,w,h", remedy="correct the box column")
    x, y, w, h = (float(value) for value in box_px)
    if w <= 0.0 or h <= 0.0:
        raise InputError(f"a box of {w:g} by {h:g} pixels is empty", remedy="correct it or leave it blank")
    right, bottom = x + w, y + h
    outside = min(x, y) < -BOX_SLACK_PX or right > width + BOX_SLACK_PX or bottom > height + BOX_SLACK_PX
    beside = min(right, bottom) <= 0.0 or x >= width or y >= height  # what the slack lets in and clipping would empty
    if outside or beside:
        raise InputError(
            f"a box reaches outside its {width} by {height} picture", remedy="give x,y,w,h in that picture's pixels"
        )
    left, top = max(x, 0.0) / width, max(y, 0.0) / height
    return left, top, min(right / width, 1.0) - left, min(bottom / height, 1.0) - top


def box_of_mask(mask: NDArray[np.generic]) -> tuple[float, float, float, float] | None:
    """Bounding box of a mask in fractions of its picture, or None where the mask is empty."""
    filled = np.asarray(mask) != 0
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if rows.size == 0:
        return None
    height, width = filled.shape
    x, y = float(columns[0]), float(rows[0])
    return x / width, y / height, (float(columns[-1]) + 1.0 - x) / width, (float(rows[-1]) + 1.0 - y) / height


def save_png(path: Path, array: NDArray[np.generic]) -> None:
    """Write a grey picture as an 8-bit PNG without metadata.

    Args:
        path: file to write.
        array: [H, W], uint8, bool (written as 0 and 255) or float in 0..1 (rounded to the nearest of 256 levels).
    """
    if array.dtype == np.uint8:
        levels = np.asarray(array, dtype=np.uint8)
    else:
        levels = np.rint(_grey(array) * 255.0).astype(np.uint8)
    Image.fromarray(levels).save(path, format="PNG")


def load_png(path: Path) -> NDArray[np.uint8]:
    """Read a picture file (PNG, JPEG, BMP) as grey levels.

    Args:
        path: file to read.

    Returns:
        uint8 [H, W]; 16-bit levels lose their lower eight bits.

    Raises:
        InputError: when the file is absent, not a picture, broken or too large.
    """
    return _loaded(path, grey_levels)


def load_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask file (PNG, BMP): lesion is what is not zero, at whatever depth.

    Args:
        path: file to read.

    Returns:
        bool [H, W].

    Raises:
        InputError: as `load_png`.
    """
    return _loaded(path, lesion_pixels)


def grey_levels(picture: Image.Image) -> NDArray[np.uint8]:
    """Grey levels of an open picture, uint8 [H, W]; 16-bit levels lose their lower eight bits, colours become luma."""
    if picture.mode in DEEP_MODES:  # Pillow's own conversion would saturate
        return np.asarray(np.clip(np.asarray(picture), 0, 0xFFFF).astype(np.uint16) >> 8, dtype=np.uint8)
    # Over RGB, so that a palette's index is never mistaken for a grey level.
    grey = picture if picture.mode in GREY_MODES else picture.convert("RGB")
    return np.asarray(grey.convert("L"), dtype=np.uint8)


def eight_bits(levels: NDArray[Any], stored: int) -> NDArray[np.uint8]:
    """Levels of ``stored`` bits as eight bits, by a public shift; bits above the stored ones (overlays) are cleared."""
    kept = levels & ((1 << stored) - 1)
    shifted = kept >> (stored - 8) if stored > 8 else kept << (8 - stored)
    return np.asarray(shifted, dtype=np.uint8)


def luma(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey levels [H, W] of RGB levels [H, W, 3 or more]."""
    return np.asarray(np.rint(colours[..., :3].astype(np.float32) @ _LUMA), dtype=np.uint8)


def lesion_pixels(picture: Image.Image) -> NDArray[np.bool_]:
    """Where an open mask is not zero, bool [H, W]; at full depth, so that 1 of 65535 is lesion as well."""
    levels = np.asarray(picture) if picture.mode in DEEP_MODES else grey_levels(picture)
    return np.asarray(levels != 0)


def _loaded(path: Path, taken: Callable[[Image.Image], NDArray[Levels]]) -> NDArray[Levels]:
    try:
        with Image.open(path, formats=("PNG", "JPEG", "BMP")) as picture:
            if max(picture.size) > MAX_SIDE:
                raise InputError(f"{path.name} is {picture.size} pixels large", remedy=f"at most {MAX_SIDE} a side")
            return taken(picture)
    except FileNotFoundError as error:
        raise InputError(f"{path.name} does not exist", remedy="check the path") from error
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name} cannot be read as a picture", remedy="use PNG or JPEG") from error
