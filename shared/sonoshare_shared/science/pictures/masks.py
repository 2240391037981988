"""Masks: PNG files that say where the lesion is.

A pixel is lesion where any channel is not zero and the mask is not transparent. Where the colours say nothing, because
all of the opaque part has one colour, the transparency says it: many tools draw a lesion and leave the rest clear.
What cannot be a drawn lesion is refused by name: a mask that was compressed with loss, one that covers everything, one
that covers the border and not the inside. An empty mask says that there is no lesion.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoshare_shared.science.levels import DEEP_MODES
from sonoshare_shared.science.pictures.reasons import Reason, Refused

_DRAWN_LEVELS: Final = 16
"""Masks with more levels are no drawing with a few labels; their borders may be smoothed."""
_SMOOTHED_PX: Final = 3
"""How far a smoothed border reaches from the lesion, pixels."""
_HALO: Final = 0.002
"""Share of faint pixels away from the lesion that loss leaves, and smoothing does not."""
_COVERS: Final = 0.995
_BORDER: Final = 0.9


def lesion_pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """Where an open mask shows a lesion, 1 or 0 [H, W]; at full depth, so that 1 of 65535 is lesion as well.

    Raises:
        Refused: it cannot be a drawn lesion.
    """
    if picture.format == "JPEG":
        raise Refused(Reason.MASK_LOSSY)
    levels, opaque = _channels(picture)
    drawn = levels[..., 0] if levels.shape[-1] == 1 else levels.max(axis=-1)
    # A drawing on a clear ground: the colour under it is the same everywhere, or only there.
    by_clearness = bool(opaque.any()) and not opaque.all() and drawn[opaque].min() == drawn[opaque].max()
    lesion = opaque if by_clearness else (drawn > 0) & opaque
    _check_drawn(drawn if opaque.all() else np.where(opaque, drawn, 0))
    return lesion.astype(np.uint8)


def joined(masks: Sequence[NDArray[np.uint8]], shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """One mask of all of a picture; None of none.

    Args:
        masks: `lesion_pixels` of each.
        shape: of the picture.

    Raises:
        Refused: one is of another size, covers everything, or covers the border and not the inside.
    """
    for mask in masks:
        if mask.shape != shape:
            raise Refused(Reason.MASK_SIZE)
        _check_covered(mask)
    return np.asarray(np.any(masks, axis=0), dtype=np.uint8) if masks else None


def _channels(picture: Image.Image) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Colour levels [H, W, channels], and where the mask is not clear [H, W]."""
    if picture.mode in DEEP_MODES:
        levels = np.asarray(picture).astype(np.int32)[..., None]
        return levels, np.ones(levels.shape[:2], np.bool_)
    if picture.mode not in ("1", "L", "LA", "RGB", "RGBA"):
        picture = picture.convert("RGBA")  # palettes and their transparency
    elif "transparency" in picture.info:
        picture = picture.convert("RGBA")
    levels = np.asarray(picture).astype(np.int32)
    if levels.ndim == 2:
        return levels[..., None], np.ones(levels.shape, np.bool_)
    if picture.mode in ("LA", "RGBA"):
        return levels[..., :-1], levels[..., -1] > 0
    return levels, np.ones(levels.shape[:2], np.bool_)


def _check_drawn(levels: NDArray[np.int32]) -> None:
    """Refuse what was a JPEG before: faint pixels far from any lesion."""
    if np.count_nonzero(np.bincount(levels.ravel())) <= _DRAWN_LEVELS:
        return
    from scipy import ndimage  # noqa: PLC0415 - few masks need it

    most = int(levels.max())
    near = ndimage.binary_dilation(levels >= most / 2, iterations=_SMOOTHED_PX)
    if float(((levels > 0) & ~near).mean()) > _HALO:
        raise Refused(Reason.MASK_LOSSY)


def _check_covered(lesion: NDArray[np.uint8]) -> None:
    share = float(lesion.mean())
    if share > _COVERS:
        raise Refused(Reason.MASK_FULL)
    border = np.concatenate([lesion[0], lesion[-1], lesion[:, 0], lesion[:, -1]])
    if share > 0.5 and border.mean() > _BORDER:
        raise Refused(Reason.MASK_INVERTED)
