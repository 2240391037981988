"""Lines of text that a detector's map shows, and the strips that a recogniser reads.

The detector (differentiable binarisation, Liao et al. 2020, section 3) gives each pixel the probability that it lies in
the shrunken core of a line. A core in one piece is a line; its rectangle is grown by the paper's area over perimeter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

STRIP_HEIGHT: Final = 48
"""Pixels; what the recogniser takes."""
_CORE: Final = 0.3
_SCORE: Final = 0.5
_GROWN: Final = 1.6
_THINNEST_PX: Final = 3
_SLANTED: Final = 0.07
"""Slope (rise over run) from which a line is not simply level, radians; below it the rectangle is upright."""
_LONG: Final = 2.0
"""Ratio of the sides from which the direction of a core says something."""
_UPRIGHT: Final = 1.5
"""A rectangle this many times higher than wide holds a line that runs up or down."""
_LONGEST_STRIP: Final = 1600
"""Pixels."""


@dataclass(frozen=True)
class Line:
    """The rectangle of a line of text, in pixels of the picture.

    Attributes:
        x: centre.
        y: centre.
        length: along the line.
        height: across it.
        angle: of the line against the picture's rows, radians, clockwise.
    """

    x: float
    y: float
    length: float
    height: float
    angle: float = 0.0

    def bounds(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom (both beyond the last pixel) of the upright rectangle around it."""
        cos, sin = abs(np.cos(self.angle)), abs(np.sin(self.angle))
        across, down = (self.length * cos + self.height * sin) / 2, (self.length * sin + self.height * cos) / 2
        left, top = max(0, int(np.floor(self.x - across))), max(0, int(np.floor(self.y - down)))
        return left, top, min(width, int(np.ceil(self.x + across))), min(height, int(np.ceil(self.y + down)))

    def scaled(self, factor: float) -> "Line":
        """The same line on a picture enlarged by a factor."""
        return Line(self.x * factor, self.y * factor, self.length * factor, self.height * factor, self.angle)


def lines_of(probability: NDArray[np.float32]) -> list[Line]:
    """The lines of a detector's map.

    Args:
        probability: float32 [H, W].

    Returns:
        From top to bottom, in pixels of the map.
    """
    cores = ndimage.binary_dilation(probability > _CORE, np.ones((2, 2)))
    labels, count = ndimage.label(cores, np.ones((3, 3)))
    places = ndimage.find_objects(labels)
    lines = []
    for number in range(1, count + 1):
        place = places[number - 1]
        rows, columns = np.nonzero(labels[place] == number)
        score = float(probability[place][rows, columns].mean())
        line = _rectangle(rows + place[0].start, columns + place[1].start)
        if score >= _SCORE and line.height >= _THINNEST_PX:
            lines.append(_grown(line))
    return lines


def _rectangle(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Line:
    height, width = float(np.ptp(rows)) + 1, float(np.ptp(columns)) + 1
    x, y = float(columns.min()) + width / 2, float(rows.min()) + height / 2
    if rows.size > _THINNEST_PX**2:
        variance = np.cov(columns, rows)
        values, vectors = np.linalg.eigh(variance)
        along = vectors[:, 1] if vectors[0, 1] >= 0 else -vectors[:, 1]
        angle = float(np.arctan2(along[1], along[0]))
        off_axis = min(abs(angle), abs(abs(angle) - np.pi / 2))
        if values[1] > _LONG**2 * max(values[0], 1e-6) and off_axis > _SLANTED:
            ahead = columns * along[0] + rows * along[1]
            aside = rows * along[0] - columns * along[1]
            centre, beside = (ahead.max() + ahead.min()) / 2, (aside.max() + aside.min()) / 2
            return Line(
                float(centre * along[0] - beside * along[1]) + 0.5,
                float(centre * along[1] + beside * along[0]) + 0.5,
                float(np.ptp(ahead)) + 1,
                float(np.ptp(aside)) + 1,
                angle,
            )
    return Line(x, y, width, height)


def _grown(line: Line) -> Line:
    margin = 2 * _GROWN * line.length * line.height / (2 * (line.length + line.height))
    return Line(line.x, line.y, line.length + margin, line.height + margin, line.angle)


def strips_of(picture: Image.Image, line: Line) -> Iterator[NDArray[np.uint8]]:
    """What a recogniser reads of a line: uint8 [48, W], twice for a line that runs up or down, once each way.

    Args:
        picture: grey.
        line: in its pixels.
    """
    if line.height >= _UPRIGHT * line.length:
        turned = Line(line.x, line.y, line.height, line.length, line.angle + np.pi / 2)
        yield _strip(picture, turned)
        yield _strip(picture, Line(line.x, line.y, line.height, line.length, line.angle - np.pi / 2))
    elif abs(line.angle) > np.pi / 4:  # a slanted line that is steeper than it is level
        yield _strip(picture, line)
        yield _strip(picture, Line(line.x, line.y, line.length, line.height, line.angle + np.pi))
    else:
        yield _strip(picture, line)


def _strip(picture: Image.Image, line: Line) -> NDArray[np.uint8]:
    scale = line.height / STRIP_HEIGHT
    width = min(max(1, round(line.length / scale)), _LONGEST_STRIP)
    stretch = line.length / width
    cos, sin = float(np.cos(line.angle)), float(np.sin(line.angle))
    # From a pixel of the strip to a pixel of the picture; what lies outside the picture is its border's ground.
    a, b, d, e = stretch * cos, -scale * sin, stretch * sin, scale * cos
    c = line.x - a * width / 2 - b * STRIP_HEIGHT / 2
    f = line.y - d * width / 2 - e * STRIP_HEIGHT / 2
    size = (width, STRIP_HEIGHT)
    strip = picture.transform(size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BICUBIC)
    return np.asarray(strip, dtype=np.uint8)
