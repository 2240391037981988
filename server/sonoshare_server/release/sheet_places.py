"""Where the images of a contact sheet stand: for whoever draws one, and for pages that show parts of it."""

from typing import Final

COLUMNS: Final = 12
_GAP: Final = 2


def extent(size: int, shown: list[int]) -> tuple[int, int]:
    """Width and height of a sheet in pixels.

    Args:
        size: side of the images.
        shown: number of images of each class.
    """
    columns = min(COLUMNS, max(shown))
    right, bottom = place(size, 2 * len(shown), columns)
    return right - _GAP, bottom - _GAP


def place(size: int, row: int, column: int) -> tuple[int, int]:
    """Left and top edge of an image; even rows hold images, the odd row below each the same with their outlines."""
    step = size + _GAP
    return column * step, row * step
