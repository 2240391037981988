"""Whether a picture is looked through for text, and what is kept of it then.

Promise: a picture in which text is likely, or that nothing vouches for (``must``), is never taken unread. What comes
back of it holds no line that the reader finds and the rule sends away.

Importing this costs next to nothing; what reads and takes out text is loaded with the first picture that needs it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.box import Box
from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.text.likely import text_is_likely

if TYPE_CHECKING:
    from sonoshare_shared.science.pictures.text.reading import TextReader

Rectangle = tuple[int, int, int, int]
"""x, y, width and height in pixels."""


@dataclass(frozen=True, eq=False)
class Cleared:
    """A picture that was looked at.

    Attributes:
        pixels: uint8 [H, W].
        blanked: where tissue was put in the place of text.
    """

    pixels: NDArray[np.uint8]
    blanked: tuple[Rectangle, ...] = ()


def without_text(
    pixels: NDArray[np.uint8],
    lesion: NDArray[np.bool_] | None,
    reader: Callable[[], "TextReader | None"],
    *,
    must: bool,
    accepted: Collection[Reason] = (),
) -> Cleared:
    """A picture without text that may name somebody.

    Args:
        pixels: uint8 [H, W].
        lesion: bool [H, W], pixels that must not be touched, or None.
        reader: gives the reader; called only where a picture is read.
        must: read also where text is not likely.
        accepted: reasons that a person has decided not to hold against this picture.

    Raises:
        Refused: text cannot be read here, or cannot be taken out.
    """
    if not must and not text_is_likely(pixels):
        return Cleared(pixels)
    read = reader()
    if read is None:
        raise Refused(Reason.TEXT_UNREAD)
    from sonoshare_shared.science.pictures.text.removal import removed  # noqa: PLC0415 - scipy, which few pictures need

    return Cleared(*removed(pixels, lesion, read, accepted))


def cleared_everywhere(frames: Sequence[Cleared], accepted: Collection[Reason] = ()) -> list[Cleared]:
    """Pictures of one file: what was blanked in one is blanked in all of the same size.

    A name stands in the same place throughout a clip, and may be read in one frame only. A dual view may write the same
    beside both of its pictures.

    Raises:
        Refused: all together covers too much.
    """
    return [_with_places(frame, frames, accepted) for frame in frames]


def _with_places(frame: Cleared, frames: Sequence[Cleared], accepted: Collection[Reason]) -> Cleared:
    others = {place for other in frames if other.pixels.shape == frame.pixels.shape for place in other.blanked}
    missing = others - set(frame.blanked)
    if not missing:
        return frame
    from sonoshare_shared.science.pictures.text.removal import blanked_too  # noqa: PLC0415 - scipy

    pixels, places = blanked_too(frame.pixels, missing, accepted)
    return Cleared(pixels, (*frame.blanked, *places))


def lesion_pixels(shape: tuple[int, ...], mask: NDArray[np.uint8] | None, box: Box | None) -> NDArray[np.bool_] | None:
    """Where the lesion is: the mask, else the box, else None.

    Args:
        shape: of the picture.
        mask: uint8 of this shape, not zero in the lesion.
        box: in fractions of the picture.
    """
    if mask is not None:
        return np.asarray(mask != 0)
    if box is None:
        return None
    x, y, w, h = box.pixels(shape[1], shape[0])
    lesion = np.zeros(shape, np.bool_)
    lesion[int(y) : int(np.ceil(y + h)), int(x) : int(np.ceil(x + w))] = True
    return lesion
