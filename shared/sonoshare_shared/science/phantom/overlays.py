"""What scanners write over a picture: logo, annotation, measurement, calipers, depth ruler, grey bar.

The marks are meaningless glyphs of three by five cells, never letters that could spell a name. They do not depend on
the class: a classifier gains nothing by reading them.
"""

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.phantom.arithmetic import Array, Values
from sonoshare_shared.science.phantom.lesions import LesionParameters
from sonoshare_shared.science.phantom.scanners import Overlay

NO_OVERLAY = Overlay(logo=0.0, annotation=0.0, measurement=0.0, calipers=0.0, depth_ruler=0.0, grey_bar=0.0)
"""A clean picture."""


def _glyphs(rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
    """A line of ``count`` random glyphs, bool [5, 4 * count]."""
    line = rng.random((5, count, 4)) < 0.6
    line[:, :, 3] = False
    return np.asarray(line.reshape(5, 4 * count))


def _stamp(image: Array, pattern: NDArray[np.bool_], row: int, column: int, grey: float) -> None:
    """Set the pattern's pixels to ``grey``; what falls outside the image is cut off."""
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + pattern.shape[0], image.shape[0]), min(column + pattern.shape[1], image.shape[1])
    if bottom > top and right > left:
        image[top:bottom, left:right][pattern[top - row : bottom - row, left - column : right - column]] = grey


def _cross(image: Array, row: int, column: int, arm: int, grey: float) -> None:
    pattern = np.zeros((2 * arm + 1, 2 * arm + 1), dtype=bool)
    pattern[arm, :] = True
    pattern[:, arm] = True
    _stamp(image, pattern, row - arm, column - arm, grey)


def draw_overlay(rng: np.random.Generator, overlay: Overlay, lesion: LesionParameters | None, n: int) -> Array:
    """Draw the scanner's marks on a transparent sheet.

    Args:
        rng: source of randomness.
        overlay: probabilities of the marks.
        lesion: the lesion that calipers measure, or None.
        n: side of the picture in pixels.

    Returns:
        Grey levels in 0..1 where there is a mark and NaN elsewhere, shape [n, n]; see `marked`.
    """
    scale = max(1, n // 128)
    sheet = np.full((n, n), np.nan)
    grey = float(rng.uniform(0.7, 1.0))

    def text(count: int, row: float, column: float) -> None:
        glyphs = np.kron(_glyphs(rng, count), np.ones((scale, scale), dtype=bool))
        _stamp(sheet, glyphs, round(row * n), round(column * n), grey)

    if rng.random() < overlay.logo:
        text(2, 0.02, 0.93 if rng.random() < 0.5 else 0.88)
    if rng.random() < overlay.annotation:
        row, column = rng.uniform(0.70, 0.92), rng.uniform(-0.15, 0.85)
        text(int(rng.integers(5, 13)), row, column)
        if rng.random() < 0.4:
            text(int(rng.integers(2, 6)), row + 0.06, column + rng.uniform(0.0, 0.1))
    if rng.random() < overlay.measurement:
        text(int(rng.integers(8, 16)), 0.95, rng.uniform(0.0, 0.4))
    if rng.random() < overlay.depth_ruler:
        sheet[np.linspace(0.05, 0.95, int(rng.integers(4, 8))).dot(n).astype(int), -3 * scale :] = grey
    if rng.random() < overlay.grey_bar:
        top, height = round(0.05 * n), round(0.3 * n)
        sheet[top : top + height, -4 * scale :] = np.linspace(1.0, 0.0, height)[:, None]
    if lesion is not None and rng.random() < overlay.calipers:
        for side in (-1.0, 1.0):
            column = lesion.centre[0] + side * lesion.half_width * rng.uniform(0.95, 1.1)
            row = lesion.centre[1] + side * lesion.half_height * rng.uniform(-0.3, 0.3)
            _cross(sheet, round(row * n), round(column * n), 2 * scale, grey)
    return sheet


def marked(xp: Values, image: Values, sheet: Values) -> Values:
    """A picture under a sheet of marks, grey levels in 0..1; ``xp`` is the module of the arithmetic in use."""
    return xp.clip(xp.where(xp.isnan(sheet), image, sheet), 0.0, 1.0)
