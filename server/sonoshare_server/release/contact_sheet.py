"""One picture of a release: for each class a row of images, and the same images with the lesion outlined."""

import numpy as np
from numpy.typing import NDArray

from sonoshare_server.release.sheet_places import COLUMNS, extent, place
from sonoshare_shared.science.outline import outlined

_BACKGROUND = 255


def contact_sheet(rows: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Draw the sheet.

    Args:
        rows: for each class, up to ``COLUMNS`` images uint8 [n, S, S] and their masks uint8 [n, S, S].

    Returns:
        Colour pixels uint8 [height, width, 3].
    """
    size = rows[0][0].shape[-1]
    width, height = extent(size, [len(images) for images, _ in rows])
    sheet = np.full((height, width, 3), _BACKGROUND, np.uint8)
    for row, (images, masks) in enumerate(rows):
        for column in range(min(len(images), COLUMNS)):
            left, top = place(size, 2 * row, column)
            colour = np.repeat(images[column][:, :, None], 3, axis=2)
            sheet[top : top + size, left : left + size] = colour
            left, top = place(size, 2 * row + 1, column)
            sheet[top : top + size, left : left + size] = outlined(images[column], masks[column])
    return sheet
