"""Contact sheets of a review: every picture on one, by class and device, with its lesion, on bounded pages."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.client.crafted import speckle

from sonoshare_client.own_eyes.sheets import COLUMNS, HIGHEST, ROWS, WIDEST, ContactSheets
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.outline import OUTLINE

GREY = np.full((80, 96), 100, np.uint8)


def stored(label: str = "benign", device: str = "", **values: object) -> StoredImage:
    image = {"pixels": GREY, "mask": None, "box": None} | values
    return StoredImage(label=label, device=device, **image)  # type: ignore[arg-type]


def page(path: Path) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    with Image.open(path) as picture:
        return np.array(picture)


def amber(path: Path) -> int:
    return int((page(path) == OUTLINE).all(axis=2).sum())


def test_each_class_and_device_has_pages_of_its_own_and_none_grows(tmp_path: Path) -> None:
    sheets, full = ContactSheets(tmp_path), COLUMNS * ROWS
    tall = stored("malignant", "K7", pixels=speckle(1, 3000, 90))
    told = [sheets.add(f"{number:06}", stored()) for number in range(full + 1)]
    told += [sheets.add("000100", tall), sheets.add("000101", stored())]
    sheets.finish()
    assert told[:full] == ["sheet-01-001.png"] * full
    assert told[full:] == ["sheet-01-002.png", "sheet-02-001.png", "sheet-01-002.png"]
    assert {path.name for path in tmp_path.iterdir()} == set(told)
    sizes = {name: page(tmp_path / name).shape[:2] for name in set(told)}
    assert all(height <= HIGHEST and width <= WIDEST for height, width in sizes.values())
    assert sizes["sheet-01-001.png"] == (HIGHEST, WIDEST)


@pytest.mark.parametrize("size", [1.0, 1e-9])
def test_the_lesion_is_outlined_by_its_mask_or_else_its_box(size: float, tmp_path: Path) -> None:
    sheets, mask = ContactSheets(tmp_path), np.zeros_like(GREY)
    mask[20:41, 30:61] = 1
    box = Box(0.5, 0.5, 0.25 * size, 0.25 * size)
    masked = sheets.add("1", stored("masked", mask=mask, box=box))
    boxed = sheets.add("2", stored("boxed", box=box))
    plain = sheets.add("3", stored("plain", mask=np.zeros_like(GREY)))
    sheets.finish()
    assert amber(tmp_path / masked) == 2 * (21 + 31) - 4
    assert amber(tmp_path / boxed) == 2 * (24 + 20) - 4 if size == 1.0 else 1 <= amber(tmp_path / boxed) <= 4
    assert amber(tmp_path / plain) == 0
