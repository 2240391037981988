"""Takes lines of text out of a picture: tissue from beside them is put in their place.

A blank of one grey level would be learnt: a study's images would show boxes where hospitals write names. So a
clear piece of the same picture, from nearby, is copied over each line and brought to the brightness around it. It is
invented tissue, no observation; where it is, is recorded with the picture.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from sonoshare_shared.science.pictures.text.lines import Line

Place = tuple[slice, slice]
"""Rows and columns."""

_MARGIN_PX: Final = 1.0
_MARGIN: Final = 0.1
"""Of a line's height."""
_STEP_PX: Final = 3
_CANDIDATES: Final = range(0, 120, 5)
"""Which of the clear pieces, the nearest first, are compared; the one is taken whose surroundings are most alike."""
_BRIGHTENED: Final = (0.6, 1.6)
"""Least and most by which a piece is darkened or brightened."""
_RING_PX: Final = 4
"""How far around a place its brightness is taken."""
_SMOOTHED_PX: Final = 3.0


def covered(shape: tuple[int, ...], lines: Sequence[Line], *, margin: bool = True) -> NDArray[np.bool_]:
    """The pixels of lines, bool [H, W].

    Args:
        shape: of the picture.
        lines: in its pixels.
        margin: with what letters and their shadows reach beyond the detector's rectangle.
    """
    sheet = Image.new("1", (shape[1], shape[0]))
    pen = ImageDraw.Draw(sheet)
    for line in lines:
        more = max(_MARGIN_PX, _MARGIN * line.height) if margin else 0.0
        along, aside = line.length / 2 + more, line.height / 2 + more
        cos, sin = np.cos(line.angle), np.sin(line.angle)
        corners = [(along, aside), (along, -aside), (-along, -aside), (-along, aside)]
        pen.polygon([(line.x + a * cos - b * sin, line.y + a * sin + b * cos) for a, b in corners], fill=1)
    return np.asarray(sheet, dtype=np.bool_)


def filled(
    pixels: NDArray[np.uint8], blank: NDArray[np.bool_], avoid: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], list[tuple[int, int, int, int]]]:
    """Put tissue in the place of what is blank.

    Args:
        pixels: uint8 [H, W].
        blank: bool [H, W], what goes.
        avoid: bool [H, W], what is not copied from: other text, the lesion.

    Returns:
        The picture, and the rectangles that were replaced: x, y, width and height in its pixels.
    """
    result = pixels.copy()
    not_from = blank | avoid
    sums = np.pad(np.cumsum(np.cumsum(not_from, axis=0, dtype=np.int64), axis=1), ((1, 0), (1, 0)))
    labels, _ = ndimage.label(blank)
    rectangles = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        here = labels[place] == number
        clear = (there for there in _around(place, pixels.shape) if not _any(sums, there))
        sources = list(islice(clear, _CANDIDATES.start, _CANDIDATES.stop, _CANDIDATES.step))
        piece = _best(pixels, not_from, place, sources) if sources else _smooth(pixels, not_from, place)
        result[place][here] = piece[here]
        rows, columns = place
        rectangles.append((columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start))
    return result, rectangles


def _around(place: Place, shape: tuple[int, ...]) -> Iterator[Place]:
    """Places of the same size above, below and beside, the nearest first."""
    rows, columns = place
    height, width = rows.stop - rows.start, columns.stop - columns.start
    shifts = [(sign * step, 0) for step in range(height, shape[0], _STEP_PX) for sign in (-1, 1)]
    shifts += [(0, sign * step) for step in range(width, shape[1], _STEP_PX) for sign in (-1, 1)]
    for down, across in sorted(shifts, key=lambda shift: abs(shift[0]) + abs(shift[1])):
        top, left = rows.start + down, columns.start + across
        if top >= 0 and left >= 0 and top + height <= shape[0] and left + width <= shape[1]:
            yield slice(top, top + height), slice(left, left + width)


def _any(sums: NDArray[np.int64], place: Place) -> bool:
    """Whether anything is marked in a place, from its summed area table."""
    rows, columns = place
    corners = sums[rows.stop, columns.stop] - sums[rows.start, columns.stop]
    return bool(corners - sums[rows.stop, columns.start] + sums[rows.start, columns.start] > 0)


def _best(
    pixels: NDArray[np.uint8], marked: NDArray[np.bool_], to: Place, sources: Sequence[Place]
) -> NDArray[np.uint8]:
    """The piece that fits best, brought to the brightness around the place."""
    wanted, known = _framed(pixels, to), ~_framed(marked, to)
    known[_RING_PX:-_RING_PX, _RING_PX:-_RING_PX] = False

    def unlike(source: Place) -> float:
        both = known & ~_framed(marked, source)
        difference = np.abs(wanted.astype(np.int16) - _framed(pixels, source))
        return float(difference[both].mean()) if both.any() else float("inf")

    source = min(sources, key=unlike)
    both = known & ~_framed(marked, source)
    here, there = (_framed(pixels, place)[both] for place in (to, source))
    factor = (float(here.mean()) + 1.0) / (float(there.mean()) + 1.0) if both.any() else 1.0  # speckle grows, too
    return np.asarray(np.clip(np.rint(pixels[source] * np.clip(factor, *_BRIGHTENED)), 0, 255), dtype=np.uint8)


def _framed(values: NDArray[Any], place: Place) -> NDArray[Any]:
    """A place and the ring around it; beyond the picture's edge its border is repeated."""
    rows, columns = (np.arange(side.start - _RING_PX, side.stop + _RING_PX) for side in place)
    return np.asarray(values[np.ix_(rows.clip(0, values.shape[0] - 1), columns.clip(0, values.shape[1] - 1))])


def _smooth(pixels: NDArray[np.uint8], marked: NDArray[np.bool_], place: Place) -> NDArray[np.uint8]:
    """Where nothing clear of this size is near: the nearest clear pixels, blurred."""
    if marked.all():
        return np.zeros_like(pixels[place])
    nearest = ndimage.distance_transform_edt(marked, return_distances=False, return_indices=True)
    levels = pixels[tuple(nearest)].astype(np.float32)
    return np.asarray(np.rint(ndimage.gaussian_filter(levels, _SMOOTHED_PX))[place], dtype=np.uint8)
