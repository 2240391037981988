"""Reads a picture, and takes out what may not stay, or says why it cannot.

The order: read; blank what may not stay (``rule``), with the lines that blanking would cut into; read again. A line
that stood in the shadow of a larger one is blanked in a second round. If anything is left then that may not stay, the
picture is set aside, as it is where text covers much of it or lies over the lesion.

A person may have decided that one of these is no reason. Then everything is taken out all the same that can be: what
is left is what lies over the lesion, or what is still read in the end.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.text.blanking import covered, filled
from sonoshare_shared.science.pictures.text.clearing import Rectangle
from sonoshare_shared.science.pictures.text.lines import Line
from sonoshare_shared.science.pictures.text.reading import ReadLine, TextReader
from sonoshare_shared.science.pictures.text.rule import may_stay

MOST_BLANKED: Final = 0.15
"""Part of a picture that may be blanked."""
MOST_OF_LESION: Final = 0.01
"""Part of a lesion that may be: a margin that touches its edge."""
_ROUNDS: Final = 2


def removed(
    pixels: NDArray[np.uint8],
    lesion: NDArray[np.bool_] | None,
    read: TextReader,
    accepted: Collection[Reason] = (),
) -> tuple[NDArray[np.uint8], tuple[Rectangle, ...]]:
    """Take out the text that may not stay.

    Args:
        pixels: uint8 [H, W].
        lesion: bool [H, W], or None.
        read: finds and reads text.
        accepted: reasons that a person has decided not to hold against this picture.

    Returns:
        The picture, and what was replaced in it.

    Raises:
        Refused: it cannot be taken out.
    """
    blank = np.zeros(pixels.shape, np.bool_)
    cleared, rectangles = pixels, list[Rectangle]()
    for _ in range(_ROUNDS):
        lines = read(cleared)
        going = _going(lines, pixels.shape)
        if not going:
            return cleared, tuple(rectangles)
        blank |= covered(pixels.shape, going)
        _check_extent(blank, lesion, accepted)
        if lesion is not None and Reason.TEXT_OVER_LESION in accepted:
            blank &= ~lesion
        avoid = covered(pixels.shape, [found.line for found in lines])
        cleared, rectangles = filled(pixels, blank, avoid if lesion is None else avoid | lesion)
    left = _going(read(cleared), pixels.shape)
    if lesion is not None and Reason.TEXT_OVER_LESION in accepted:
        left = [line for line in left if not (covered(pixels.shape, [line]) & lesion).any()]
    if left and Reason.TEXT_REMAINS not in accepted:
        raise Refused(Reason.TEXT_REMAINS)
    return cleared, tuple(rectangles)


def blanked_too(
    pixels: NDArray[np.uint8], places: Iterable[Rectangle], accepted: Collection[Reason] = ()
) -> tuple[NDArray[np.uint8], tuple[Rectangle, ...]]:
    """Put tissue over rectangles, whatever is under them.

    Args:
        pixels: uint8 [H, W].
        places: in its pixels.
        accepted: as in `removed`.

    Raises:
        Refused: they cover too much.
    """
    blank = np.zeros(pixels.shape, np.bool_)
    for x, y, w, h in places:
        blank[y : y + h, x : x + w] = True
    _check_extent(blank, None, accepted)
    filled_in, rectangles = filled(pixels, blank, np.zeros_like(blank))
    return filled_in, tuple(rectangles)


def _going(lines: Sequence[ReadLine], shape: tuple[int, ...]) -> list[Line]:
    """The lines that may not stay, and those that blanking them would cut into; empty if all may stay."""
    going = [found.line for found in lines if not _stays(found)]
    rest = [found.line for found in lines if _stays(found)]
    cut = bool(going)
    while cut:
        blank = covered(shape, going)
        cut_into = [line for line in rest if (blank & covered(shape, [line], margin=False)).any()]
        going += cut_into
        rest = [line for line in rest if line not in cut_into]
        cut = bool(cut_into)
    return going


def _check_extent(blank: NDArray[np.bool_], lesion: NDArray[np.bool_] | None, accepted: Collection[Reason]) -> None:
    over = lesion is not None and np.count_nonzero(blank & lesion) > MOST_OF_LESION * np.count_nonzero(lesion)
    if over and Reason.TEXT_OVER_LESION not in accepted:
        raise Refused(Reason.TEXT_OVER_LESION)
    if float(blank.mean()) > MOST_BLANKED and Reason.TEXT_COVERS not in accepted:
        raise Refused(Reason.TEXT_COVERS)


def _stays(found: ReadLine) -> bool:
    return may_stay(found.text, found.confidence, found.shape)
