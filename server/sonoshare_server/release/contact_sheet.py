"""One picture of a release: for each class a row of images, and the same images with the lesion outlined."""

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.outline import outlined

COLUMNS = 12
_GAP = 2
_BACKGROUND = 255


def contact_sheet(rows: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Draw the sheet.

    Args:
        rows: for each class, up to ``COLUMNS`` images uint8 [n, S, S] and their masks uint8 [n, S, S].

    Returns:
        Colour pixels uint8 [height, width, 3].
    """
    size = rows[0][0].shape[-1]
    step = size + _GAP
    columns = min(COLUMNS, max(len(images) for images, _ in rows))
    sheet = np.full((2 * len(rows) * step - _GAP, columns * step - _GAP, 3), _BACKGROUND, np.uint8)
    for row, (images, masks) in enumerate(rows):
        for column in range(min(len(images), columns)):
            left, top = column * step, 2 * row * step
            colour = np.repeat(images[column][:, :, None], 3, axis=2)
            sheet[top : top + size, left : left + size] = colour
            sheet[top + step : top + step + size, left : left + size] = outlined(images[column], masks[column])
    return sheet
