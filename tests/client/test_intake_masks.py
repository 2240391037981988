"""Masks and boxes as tools write them: any channel, clear grounds, several of one picture, and what is no mask."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import ExifTags, Image
from scipy import ndimage
from tests.client.crafted import COLUMNS, ROWS, make_node, plain_vault, speckle, write_labels

from sonoshare_client.intake.ingest import ingest
from sonoshare_client.intake.reasons import Flag
from sonoshare_deploy.cli.hospital import command
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.pictures.reading import read_file
from sonoshare_shared.science.pictures.reasons import Reason


def lesion(row: int = 40, column: int = 60) -> Any:
    """Bool, a lesion of 20 by 30 pixels."""
    mask = np.zeros((ROWS, COLUMNS), np.bool_)
    mask[row : row + 20, column : column + 30] = True
    return mask


SHAPE = lesion()
ZERO, ONE = np.zeros((ROWS, COLUMNS), np.uint8), np.full((ROWS, COLUMNS), 255, np.uint8)
DRAWN = SHAPE * np.uint8(255)


def indexed() -> Image.Image:
    """Index 0 is a coloured lesion, index 1 a black ground."""
    picture = Image.fromarray(np.where(SHAPE, 0, 1).astype(np.uint8), mode="P")
    picture.putpalette([200, 30, 30, 0, 0, 0])
    return picture


def smoothed() -> Image.Image:
    return Image.fromarray(ndimage.gaussian_filter(DRAWN.astype(np.float32), 0.8).astype(np.uint8))


SAME = {
    "grey": Image.fromarray(DRAWN),
    "ones": Image.fromarray(SHAPE.astype(np.uint8)),
    "16_bits_of_one": Image.fromarray(SHAPE.astype(np.uint16)),
    "one_bit": Image.fromarray(SHAPE),
    "red_of_one": Image.fromarray(np.stack([SHAPE.astype(np.uint8), ZERO, ZERO], axis=-1)),
    "blue": Image.fromarray(np.stack([ZERO, ZERO, DRAWN], axis=-1)),
    "white_on_clear": Image.fromarray(np.stack([ONE, ONE, ONE, DRAWN], axis=-1)),
    "black_on_clear": Image.fromarray(np.stack([ZERO, ZERO, ZERO, DRAWN], axis=-1)),
    "grey_on_clear": Image.merge("LA", [Image.fromarray(ONE), Image.fromarray(DRAWN)]),
    "white_in_black_opaque": Image.fromarray(np.stack([DRAWN, DRAWN, DRAWN, ONE], axis=-1)),
    "palette": indexed(),
}


@pytest.mark.parametrize("form", SAME)
def test_a_lesion_is_what_any_channel_shows(form: str, tmp_path: Path) -> None:
    Image.fromarray(speckle(1)).save(tmp_path / "x.png")
    SAME[form].save(tmp_path / "m.png")
    kept = read_file(tmp_path / "x.png", (tmp_path / "m.png",))
    assert np.array_equal(kept.mask.astype(bool), SHAPE)


def test_a_smoothed_border_is_no_loss(tmp_path: Path) -> None:
    Image.fromarray(speckle(1)).save(tmp_path / "x.png")
    smoothed().save(tmp_path / "m.png")
    kept = read_file(tmp_path / "x.png", (tmp_path / "m.png",))
    assert not (SHAPE & (kept.mask == 0)).any()
    assert kept.mask.sum() < 1.7 * SHAPE.sum()


def lossy(path: Path) -> None:
    """A JPEG of a mask, saved as PNG by a tool that meant well."""
    Image.fromarray(DRAWN).save(path.with_suffix(".jpg"), quality=60)
    Image.open(path.with_suffix(".jpg")).save(path)


REFUSED = {
    "jpeg": (lambda path: Image.fromarray(DRAWN).save(path, format="JPEG"), Reason.MASK_LOSSY),
    "jpeg_before": (lossy, Reason.MASK_LOSSY),
    "full": (lambda path: Image.fromarray(ONE).save(path), Reason.MASK_FULL),
    "inverted": (lambda path: Image.fromarray(255 - DRAWN).save(path), Reason.MASK_INVERTED),
    "other_size": (lambda path: Image.fromarray(DRAWN[:50]).save(path), Reason.MASK_SIZE),
    "animated": (
        lambda path: Image.fromarray(DRAWN).save(path, save_all=True, append_images=[Image.fromarray(255 - DRAWN)]),
        Reason.MASK_UNREADABLE,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_drawn_lesion_is_refused_by_name(case: str, tmp_path: Path) -> None:
    make, reason = REFUSED[case]
    Image.fromarray(speckle(1)).save(tmp_path / "x.png")
    make(tmp_path / "m.png")
    with pytest.raises(InputError) as refused:
        read_file(tmp_path / "x.png", (tmp_path / "m.png",))
    assert refused.value.message == f"x.png (mask m.png): {reason.fact}"


def test_an_empty_mask_contradicts_a_box(tmp_path: Path) -> None:
    Image.fromarray(speckle(1)).save(tmp_path / "x.png")
    Image.fromarray(ZERO).save(tmp_path / "m.png")
    assert read_file(tmp_path / "x.png", (tmp_path / "m.png",)).box is None
    with pytest.raises(InputError, match="empty although a box is given"):
        read_file(tmp_path / "x.png", (tmp_path / "m.png",), Box(1, 1, 9, 9))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_picture_and_mask_are_turned_alike(orientation: int, tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = orientation
    for name, pixels in (("x", speckle(1)), ("m", DRAWN)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", exif=turned)
    kept = read_file(tmp_path / "x.png", (tmp_path / "m.png",))
    assert np.array_equal(np.sort(kept.pixels[kept.mask == 1]), np.sort(speckle(1)[SHAPE]))


def busi(folder: Path) -> None:
    """As BUSI names its files; the third mask lies beside the others and no row names it."""
    for place, name in enumerate(("x_mask", "x_mask_1", "x_mask_2")):
        Image.fromarray(lesion(2 + 25 * place, 5 + 40 * place) * np.uint8(255)).save(folder / f"{name}.png")
    Image.fromarray(speckle(1)).save(folder / "x.png")


@pytest.mark.parametrize("named", ["x_mask.png", "x_mask.png;x_mask_1.png", "x_mask_2.png; x_mask_1.png;x_mask.png"])
def test_several_masks_of_one_picture_are_one_lesion_mask(named: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    busi(folder)
    write_labels(folder, [{"image": "x.png", "mask": named}])
    (row,) = read_labels(folder)
    assert sorted(mask.name for mask in row.masks) == ["x_mask.png", "x_mask_1.png", "x_mask_2.png"]
    home = make_node(tmp_path / "home")
    report = ingest(home, folder)
    assert (report.accepted, report.unlisted) == (1, ())
    ((_, stored),) = plain_vault(home)
    assert stored.mask.sum() == 3 * SHAPE.sum()
    assert np.array_equal(stored.mask, read_file(row.image, row.masks).mask)
    assert stored.box == pytest.approx((5 / COLUMNS, 2 / ROWS, 110 / COLUMNS, 70 / ROWS))


def test_several_boxes_are_kept_as_a_list_and_one_lies_around_them(tmp_path: Path) -> None:
    Image.fromarray(speckle(1)).save(tmp_path / "x.png")
    write_labels(tmp_path, [{"image": "x.png", "box": "5,6,10,12; 50,40,20,8"}])
    (row,) = read_labels(tmp_path)
    assert row.boxes == (Box(5, 6, 10, 12), Box(50, 40, 20, 8))
    assert row.box == Box(5, 6, 65, 42)


def test_what_is_set_aside_and_what_looks_odd_is_told_with_its_row(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(ZERO).save(folder / "black.png")
    Image.fromarray(ZERO).save(folder / "nothing.png")
    Image.fromarray(speckle(1)).save(folder / "x.png")
    write_labels(folder, [{"image": "x.png", "mask": "nothing.png"}, {"image": "black.png"}])
    make_node(tmp_path / "home")
    arguments = ["ingest", str(folder), "--home", str(tmp_path / "home")]
    shown = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert f"black.png (line 3): {Reason.BLANK.value}" in " ".join(shown.stdout.split())
    assert f"x.png (line 2): {Flag.EMPTY_MASK.value}" in " ".join(shown.stdout.split())
    told = json.loads(CliRunner().invoke(command, [*arguments, "--json"], standalone_mode=False).stdout)
    assert told["quarantined"] == [{"source": "black.png", "reason": Reason.BLANK.value, "line": 3}]
