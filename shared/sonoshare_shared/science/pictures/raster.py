"""PNG and JPEG files, by Pillow. Only levels are kept: no text chunk, EXIF, ICC or thumbnail.

An orientation that EXIF asks for is applied, as every viewer in which somebody draws a mask or a box applies it.
"""

import os
import warnings
from collections.abc import Callable
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sonoshare_shared.science.levels import COLOUR_MODES, DEEP_MODES, GREY_MODES, grey_levels
from sonoshare_shared.science.pictures.bounds import Bounds
from sonoshare_shared.science.pictures.masks import lesion_pixels
from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.screen import Screen

T = TypeVar("T")


def read_raster(file: BinaryIO, bounds: Bounds) -> Screen:
    """Decode a PNG or JPEG file.

    Args:
        file: the file, at its start.
        bounds: bounds on the dimensions, checked before a pixel is decoded.

    Raises:
        Refused: the file is broken, too large, animated or of no grey or colour mode.
    """
    return _read(file, bounds, _screen)


def read_mask(file: BinaryIO, bounds: Bounds) -> NDArray[np.uint8]:
    """Decode a mask file within the bounds of `read_raster`.

    Returns:
        uint8 [H, W], 1 in the lesion (`masks`).

    Raises:
        Refused: it cannot be read, or is no mask.
    """
    try:
        return _read(file, bounds, lesion_pixels)
    except Refused as refusal:
        if refusal.reason.name.startswith("MASK_"):
            raise
        raise Refused(Reason.MASK_UNREADABLE) from refusal


def _screen(picture: Image.Image) -> Screen:
    in_colour = picture.mode in COLOUR_MODES
    return Screen(grey_levels(picture), np.asarray(picture.convert("RGB"), dtype=np.uint8) if in_colour else None)


def _read(file: BinaryIO, bounds: Bounds, taken: Callable[[Image.Image], T]) -> T:
    if file.seek(0, os.SEEK_END) > bounds.file_bytes:
        raise Refused(Reason.TOO_LARGE)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=("PNG", "JPEG")) as picture:
                width, height = picture.size
                if not (0 < width <= bounds.side and 0 < height <= bounds.side and width * height <= bounds.pixels):
                    raise Refused(Reason.DIMENSIONS)
                if getattr(picture, "n_frames", 1) != 1:
                    raise Refused(Reason.ANIMATED)
                form = picture.format
                upright = ImageOps.exif_transpose(_checked(picture))
                upright.format = form  # of the file, which a turned copy forgets
                return taken(upright)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise Refused(Reason.DIMENSIONS) from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise Refused(Reason.BROKEN) from error


def _checked(picture: Image.Image) -> Image.Image:
    if picture.mode not in (*GREY_MODES, *DEEP_MODES, *COLOUR_MODES):
        raise Refused(Reason.MODE)
    return picture
