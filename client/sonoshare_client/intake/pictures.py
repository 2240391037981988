"""Child: PNG and JPEG files, by Pillow. Only the grey levels are kept: no text chunk, EXIF, ICC or thumbnail."""

import warnings
from collections.abc import Callable
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoshare_client.intake.limits import Limits
from sonoshare_client.intake.reasons import Reason, Refused
from sonoshare_shared.science.imaging import DEEP_MODES, GREY_MODES, Levels, grey_levels, lesion_pixels

_MODES: Final = (*GREY_MODES, *DEEP_MODES, "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_picture(file: BinaryIO, limits: Limits) -> NDArray[np.uint8]:
    """Decode a PNG or JPEG file.

    Args:
        file: the file, at its start.
        limits: bounds on the dimensions, checked before a pixel is decoded.

    Returns:
        uint8 [H, W], grey; 16-bit grey levels lose their lower eight bits.

    Raises:
        Refused: the file is broken, too large, animated or of no grey or colour mode.
    """
    return _read(file, limits, grey_levels)


def read_mask(file: BinaryIO, limits: Limits) -> NDArray[np.uint8]:
    """Decode a mask file; bounds and refusals of `read_picture`.

    Returns:
        uint8 [H, W], 1 where the file is not zero, at whatever depth.
    """
    return _read(file, limits, lesion_pixels).astype(np.uint8)


def _read(file: BinaryIO, limits: Limits, taken: Callable[[Image.Image], NDArray[Levels]]) -> NDArray[Levels]:
    Image.MAX_IMAGE_PIXELS = limits.pixels
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=("PNG", "JPEG")) as picture:
                width, height = picture.size
                if not (0 < width <= limits.side and 0 < height <= limits.side and width * height <= limits.pixels):
                    raise Refused(Reason.DIMENSIONS)
                if getattr(picture, "n_frames", 1) != 1:
                    raise Refused(Reason.ANIMATED)
                return taken(_checked(picture))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise Refused(Reason.DIMENSIONS) from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise Refused(Reason.BROKEN) from error


def _checked(picture: Image.Image) -> Image.Image:
    if picture.mode not in _MODES:
        raise Refused(Reason.MODE)
    return picture
