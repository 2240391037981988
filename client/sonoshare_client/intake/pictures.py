"""Child: PNG and JPEG files, by Pillow. Only the grey levels are kept: no text chunk, EXIF, ICC or thumbnail."""

import warnings
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoshare_client.intake.limits import Limits
from sonoshare_client.intake.reasons import Reason, Refused

_GREY_MODES: Final = ("1", "L", "LA")
_COLOUR_MODES: Final = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_DEEP_MODES: Final = ("I;16", "I;16B", "I")
_EIGHT_BITS: Final = 8


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
                return _grey(picture)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise Refused(Reason.DIMENSIONS) from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise Refused(Reason.BROKEN) from error


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode in _DEEP_MODES:
        levels = np.asarray(picture)
        return np.asarray(np.clip(levels, 0, 0xFFFF).astype(np.uint16) >> _EIGHT_BITS, dtype=np.uint8)
    if picture.mode in _GREY_MODES:
        return np.asarray(picture.convert("L"), dtype=np.uint8)
    if picture.mode in _COLOUR_MODES:
        # Over RGB, so that a palette's index is never mistaken for a grey level.
        return np.asarray(picture.convert("RGB").convert("L"), dtype=np.uint8)
    raise Refused(Reason.MODE)
