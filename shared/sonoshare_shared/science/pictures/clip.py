"""Which frames of a clip are looked at: those that its header marks, else evenly spread ones.

Marks are Frame Numbers of Interest (0028,6020) and, where there are none, the Representative Frame Number (0028,6010);
both count from 1 (PS3.3 C.7.6.6 and C.7.6.9). Where frames are marked no others are taken. Frames outside the trim
(0008,2142 and 0008,2143), which a viewer does not show, are not looked at.

Two frames are nearly identical where their pictures, made small, differ by less than one grey level on average: a
frozen picture, a still that was stored as a clip, a probe at rest. One of them is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.imaging import to_grid

_GRID_PX: Final = 64
_ALIKE: Final = 1 / 256
"""Mean difference of the small pictures, of full scale: one of 256 grey levels."""
_MOST_MARKS: Final = 4096


@dataclass(frozen=True)
class Marks:
    """What a header says about the frames of its clip, counted from 1.

    Attributes:
        frames: marked ones, as they stand there.
        first: of the part that is shown, or None.
        last: likewise.
    """

    frames: tuple[int, ...] = ()
    first: int | None = None
    last: int | None = None


def marks_of(dataset: Any) -> Marks:
    """The marks of a data set; what is no number marks nothing."""
    marked = _numbers(dataset, "FrameNumbersOfInterest") or _numbers(dataset, "RepresentativeFrameNumber")
    first, last = _numbers(dataset, "StartTrim"), _numbers(dataset, "StopTrim")
    return Marks(marked, first[0] if first else None, last[0] if last else None)


def frames_to_try(frames: int, most: int, marks: Marks) -> tuple[tuple[int, ...], ...]:
    """For each picture that is wanted the frames to try, the first that is a picture counts; all counted from 0.

    Args:
        frames: of the clip, at least one.
        most: pictures that are wanted, at least one.
        marks: `marks_of` its header.
    """
    marked = sorted({number - 1 for number in marks.frames if 1 <= number <= frames})
    if marked:
        return tuple((marked[place],) for place in _middles(len(marked), most))
    first, end = (marks.first or 1) - 1, marks.last or frames
    if not 0 <= first < end <= frames:
        first, end = 0, frames
    shown, parts = end - first, min(most, end - first)
    tries = []
    for part in range(parts):
        low, high = part * shown // parts, (part + 1) * shown // parts
        span = high - low
        tries.append(tuple(dict.fromkeys(first + low + span * eighths // 8 for eighths in (4, 2, 6))))
    return tuple(tries)


def nearly_identical(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two pictures, uint8 [H, W], show the same."""
    if one.shape != other.shape:
        return False
    apart = np.abs(to_grid(one, _GRID_PX) - to_grid(other, _GRID_PX)).mean()
    return bool(apart < _ALIKE)


def _middles(count: int, most: int) -> Sequence[int]:
    parts = min(count, most)
    return [(2 * part + 1) * count // (2 * parts) for part in range(parts)]


def _numbers(dataset: Any, name: str) -> tuple[int, ...]:
    try:
        value = dataset.get(name)
        several = [] if value is None or value == "" else value if isinstance(value, Sequence) else [value]
        return tuple(int(number) for number in several[:_MOST_MARKS])
    except (TypeError, ValueError, OverflowError):
        return ()
