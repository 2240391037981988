"""Contact sheets: many pictures of the vault on one page, so that a person sees at a glance what does not belong there.

A page holds pictures of one class and one device, at most `COLUMNS` by `ROWS`, each with its number and the outline of
its lesion (of its box where there is no mask). A page is at most `WIDEST` by `HIGHEST` pixels, whatever the pictures
are; a picture is made smaller to fit and never larger. One page for each class and device is in memory at a time.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.durable import put
from sonoshare_shared.science.outline import OUTLINE, outlined

COLUMNS: Final = 8
ROWS: Final = 6
_CELL_PX: Final = 220
_GAP_PX: Final = 6
_TITLE_PX: Final = 26
_CAPTION_PX: Final = 14
_STEP_PX: Final = (_CELL_PX + _GAP_PX, _CELL_PX + _CAPTION_PX + _GAP_PX)
WIDEST: Final = COLUMNS * _STEP_PX[0] + _GAP_PX
HIGHEST: Final = _TITLE_PX + ROWS * _STEP_PX[1]
_PAPER: Final = (24, 24, 24)
_INK: Final = (230, 230, 230)


@dataclass
class _Page:
    """The page that a class and device is at."""

    name: str
    title: str
    cells: list[tuple[str, NDArray[np.uint8]]] = field(default_factory=list)


class ContactSheets:
    """Pages of one review.

    Args:
        folder: where they are written, as ``sheet-GROUP-PAGE.png``; groups are numbered in the order of coming.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pages: dict[tuple[str, str], list[_Page]] = {}

    def add(self, number: str, image: StoredImage) -> str:
        """Put a picture on the page of its class and device.

        Args:
            number: written under it.
            image: as the vault keeps it.

        Returns:
            Name of the page's file.

        Raises:
            OSError: a full page cannot be written.
        """
        group = (image.label, image.device)
        pages = self._pages.setdefault(group, [])
        if not pages or len(pages[-1].cells) == COLUMNS * ROWS:
            self._write(pages[-1:])
            pages.append(self._new_page(group, len(pages)))
        pages[-1].cells.append((number, shown_cell(image)))
        return pages[-1].name

    def finish(self) -> None:
        """Write what is not yet written.

        Raises:
            OSError: it cannot be written.
        """
        for pages in self._pages.values():
            self._write(pages[-1:])

    def _new_page(self, group: tuple[str, str], earlier: int) -> _Page:
        label, device = group
        place = list(self._pages).index(group) + 1
        title = f"{label or 'no class'}  |  {device or 'no device'}  |  page {earlier + 1}"
        return _Page(f"sheet-{place:02d}-{earlier + 1:03d}.png", title)

    def _write(self, pages: list[_Page]) -> None:
        for page in pages:
            buffer = io.BytesIO()
            _drawn(page).save(buffer, format="PNG")
            put(self._folder, page.name, buffer.getvalue())
            page.cells = []


def _drawn(page: _Page) -> Image.Image:
    columns, rows = min(COLUMNS, len(page.cells)), -(-len(page.cells) // COLUMNS)
    width = WIDEST if rows > 1 else max(columns, COLUMNS // 2) * _STEP_PX[0] + _GAP_PX
    sheet = Image.new("RGB", (width, _TITLE_PX + rows * _STEP_PX[1]), _PAPER)
    draw, title, caption = ImageDraw.Draw(sheet), ImageFont.load_default(15), ImageFont.load_default(11)
    draw.text((_GAP_PX, 4), page.title, fill=_INK, font=title)
    for place, (number, cell) in enumerate(page.cells):
        left = _GAP_PX + place % COLUMNS * _STEP_PX[0]
        top = _TITLE_PX + place // COLUMNS * _STEP_PX[1]
        sheet.paste(Image.fromarray(cell), (left, top))
        draw.text((left, top + cell.shape[0] + 1), number, fill=_INK, font=caption)
    return sheet


def shown_cell(image: StoredImage) -> NDArray[np.uint8]:
    """A picture, made to fit, with its lesion: uint8 [H, W, 3]."""
    height, width = image.pixels.shape
    scale = min(1.0, _CELL_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = np.asarray(Image.fromarray(image.pixels).resize(size, Image.Resampling.BOX))
    mask = np.zeros_like(grey)
    if image.mask is not None:
        mask = np.asarray(Image.fromarray((image.mask != 0).astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    colour = outlined(grey, mask)
    if image.mask is None and image.box is not None:
        x, y, w, h = image.box.pixels(*size)
        boxed = Image.fromarray(colour)
        ImageDraw.Draw(boxed).rectangle((x, y, max(x, x + w - 1), max(y, y + h - 1)), outline=OUTLINE)
        colour = np.asarray(boxed)
    return colour
