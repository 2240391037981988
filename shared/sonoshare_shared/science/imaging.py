"""Pictures on the model's grid.

The one way in which images of any source (hospital, release, phantom) reach the model: grey levels in 0..1, resized to
a square by averaging over area. The aspect ratio is *not* kept; the lesion box is stored in fractions of the original
picture (`box.py`), so it stays right on the square. Files are read by `pictures`, and nowhere else.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.levels import eight_bits

MAX_SIDE = 16384
"""Largest grid, pixels."""


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


def box_of_mask(mask: NDArray[np.generic]) -> Box | None:
    """Bounding box of a mask in pixels, or None where the mask is empty."""
    filled = np.asarray(mask) != 0
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if rows.size == 0:
        return None
    x, y = float(columns[0]), float(rows[0])
    return Box(x, y, float(columns[-1]) + 1.0 - x, float(rows[-1]) + 1.0 - y)


def save_png(path: Path, array: NDArray[np.generic]) -> None:
    """Write a grey picture as an 8-bit PNG without metadata.

    Args:
        path: file to write.
        array: [H, W], uint8, bool (written as 0 and 255) or float in 0..1 (rounded to the nearest of 256 levels).
    """
    levels = np.asarray(array, dtype=np.uint8) if array.dtype == np.uint8 else eight_bits(_grey(array))
    Image.fromarray(levels).save(path, format="PNG")


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A grey picture, uint8 [H, W], as the bytes of a PNG without metadata."""
    written = BytesIO()
    Image.fromarray(pixels).save(written, format="PNG")
    return written.getvalue()
