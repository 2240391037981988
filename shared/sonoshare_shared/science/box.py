"""The lesion box: one type for every place that has one. No torch, no numpy.

A box is x, y, width, height, its corner at the top left. Labels, masks and the files of a release give it in *pixels*
of their picture; what the vault keeps and what the model is conditioned on is in *fractions* of the picture's width
and height. `fractions` is the only way from the one to the other, and it refuses what does not lie in the picture.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from sonoshare_shared.errors import InputError

SLACK_PX: Final = 1.0
"""A box may reach this far over the border (annotators round outwards); it is clipped."""


class Box(NamedTuple):
    """A lesion box, in pixels or in fractions of its picture.

    Attributes:
        x: left edge.
        y: top edge.
        w: width.
        h: height.
    """

    x: float
    y: float
    w: float
    h: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Box":
        """The box of four finite numbers.

        Raises:
            InputError: they are not.
        """
        if len(numbers) != 4 or not all(math.isfinite(number) for number in numbers):
            raise InputError("a box is not four numbers x,y,w,h", remedy="correct the box column")
        return cls(*(float(number) for number in numbers))

    def moved(self, x: float, y: float) -> "Box":
        """The same box, its corner moved."""
        return Box(self.x + x, self.y + y, self.w, self.h)

    def fractions(self, width: int, height: int) -> "Box":
        """A box in pixels, in fractions of its picture.

        Args:
            width: of the picture, pixels.
            height: of the picture, pixels.

        Returns:
            The box in 0..1, clipped to the picture.

        Raises:
            InputError: when the box is empty or lies over the border by more than a pixel.
        """
        x, y, w, h = Box.of(self)
        if w <= 0.0 or h <= 0.0:
            raise InputError(f"a box of {w:g} by {h:g} pixels is empty", remedy="correct it or leave it blank")
        right, bottom = x + w, y + h
        outside = min(x, y) < -SLACK_PX or right > width + SLACK_PX or bottom > height + SLACK_PX
        beside = min(right, bottom) <= 0.0 or x >= width or y >= height  # what clipping would empty
        if outside or beside:
            raise InputError(
                f"a box reaches outside its {width} by {height} picture", remedy="give x,y,w,h in that picture's pixels"
            )
        left, top = max(x, 0.0), max(y, 0.0)
        kept_width, kept_height = min(right, width) - left, min(bottom, height) - top
        return Box(left / width, top / height, kept_width / width, kept_height / height)

    def pixels(self, width: int, height: int) -> "Box":
        """A box in fractions, in pixels of a picture of this size."""
        return Box(self.x * width, self.y * height, self.w * width, self.h * height)


def enclosing(boxes: Sequence[Box]) -> Box | None:
    """The smallest box around all of several; None of none."""
    if not boxes:
        return None
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    right, bottom = max(box.x + box.w for box in boxes), max(box.y + box.h for box in boxes)
    return boxes[0] if len(boxes) == 1 else Box(left, top, right - left, bottom - top)


NO_LESION: Final = Box(0.0, 0.0, 0.0, 0.0)
"""The box of a picture that is known to show no lesion."""
