"""The pictures of a release's page, class by class: parts of its contact sheet, which everybody may see.

Nothing else of the images is shown before the data-use agreement was accepted. A sheet that is not of the form that
this version draws (`sheet_places`) is shown whole, without saying which row is which.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sonoshare_server.release.sheet_places import COLUMNS, extent, place

_EXTENT: Final = slice(16, 24)
"""Bytes of a PNG file that say how wide and high it is (PNG specification, 11.2.1)."""


@dataclass(frozen=True)
class Picture:
    """One image on the sheet.

    Attributes:
        left: its left edge in pixels.
        top: its top edge.
        outlined_top: top edge of the same image with the lesion outlined.
    """

    left: int
    top: int
    outlined_top: int


@dataclass(frozen=True)
class Row:
    """The images of one class on the sheet."""

    label: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """A sheet's images.

    Attributes:
        size: side of an image in pixels.
        width: of the sheet.
        height: of the sheet.
        rows: by class, in the order of the task.
    """

    size: int
    width: int
    height: int
    rows: tuple[Row, ...]


def shown_on_sheet(
    sheet: bytes, size: int, classes: Sequence[str], counts: Mapping[str, int]
) -> list[dict[str, Any]] | None:
    """Classes on a contact sheet from top to bottom with their numbers of images; None for a sheet of another form.

    Args:
        sheet: PNG of a verified release.
        size: side of its images in pixels.
        classes: of the task, in its order.
        counts: images of the release by class.
    """
    shown = [(label, min(COLUMNS, counts[label])) for label in classes if counts.get(label)]
    if not shown:
        return None
    alike = sheet[_EXTENT] == struct.pack(">II", *extent(size, [number for _, number in shown]))
    return [{"label": label, "images": number} for label, number in shown] if alike else None


def gallery(summary: Mapping[str, Any]) -> Gallery | None:
    """Where the images of a release stand on its sheet; None where that is not known."""
    shown, size = summary.get("gallery"), summary.get("image_size")
    if not shown or size is None:
        return None
    width, height = extent(size, [one["images"] for one in shown])
    rows = tuple(
        Row(one["label"], tuple(_picture(size, row, column) for column in range(one["images"])))
        for row, one in enumerate(shown)
    )
    return Gallery(size, width, height, rows)


def _picture(size: int, row: int, column: int) -> Picture:
    left, top = place(size, 2 * row, column)
    return Picture(left, top, place(size, 2 * row + 1, column)[1])
