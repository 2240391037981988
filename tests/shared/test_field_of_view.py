"""The picture is found on a screen whose file does not say where it is, or nothing is."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tests.shared.screens import font, screen, sector, tissue

from sonoshare_shared.science.box import Box
from sonoshare_shared.science.imaging import box_of_mask
from sonoshare_shared.science.pictures.bounds import DEFAULT_BOUNDS, SYNTHETIC_BOUNDS, Bounds
from sonoshare_shared.science.pictures.field_of_view import field_of_view
from sonoshare_shared.science.pictures.region import Region
from sonoshare_shared.science.pictures.screen import Screen, exported_picture

SLACK = 14  # pixels of a 768-line screen


def assert_near(found: Box | None, left: int, top: int, width: int, height: int, *, slack: int = SLACK) -> None:
    assert found is not None
    corners = np.array([found.x, found.y, found.x + found.w, found.y + found.h])
    assert np.abs(corners - [left, top, left + width, top + height]).max() <= slack, found


@pytest.mark.parametrize(("style", "ground"), [(0, 0), (1, 0), (2, 24), (3, 60)])
def test_a_frame_is_found_among_text_rulers_and_a_bar(style: int, ground: int) -> None:
    assert_near(field_of_view(screen(tissue(600, 560, style, style), 200, 100, ground=ground)), 200, 100, 600, 560)


@pytest.mark.parametrize("ground", [0, 24])
def test_a_fan_is_found_and_its_box_is_the_fans(ground: int) -> None:
    fan = sector(tissue(720, 600, 3), ground)
    where = box_of_mask(fan != ground)
    assert where is not None
    found = field_of_view(screen(fan, 150, 90, ground=ground))
    assert_near(found, round(150 + where.x), round(90 + where.y), round(where.w), round(where.h))


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080)])
def test_screens_of_other_sizes(size: tuple[int, int]) -> None:
    width, height = size[0] // 2, size[1] * 3 // 4
    found = field_of_view(screen(tissue(width, height, 5), size[0] // 4, size[1] // 8, size))
    assert_near(found, size[0] // 4, size[1] // 8, width, height, slack=SLACK * size[1] // 480)


@pytest.mark.parametrize("quality", [60, 90])
def test_what_a_lossy_codec_adds_around_letters_is_no_picture(quality: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(screen(tissue(600, 560, 1), 200, 100)).save(stream, format="JPEG", quality=quality)
    assert_near(field_of_view(np.asarray(Image.open(stream))), 200, 100, 600, 560)


def test_a_picture_that_fills_its_file_is_kept_whole() -> None:
    assert field_of_view(tissue(300, 260, 7)) == Box(0, 0, 300, 260)


def test_a_black_shadow_and_a_black_cyst_do_not_divide_the_picture() -> None:
    picture = tissue(600, 560, 2).copy()
    picture[200:560, 250:330] = 0
    picture[100:180, 420:540] = 0
    assert_near(field_of_view(screen(picture, 200, 100)), 200, 100, 600, 560)


def page() -> NDArray[Any]:
    """A page of text, black on white."""
    sheet = screen(np.full((500, 500), 255, np.uint8), 300, 120, ground=200)
    return np.where(sheet == 200, 255, sheet)


def twice() -> NDArray[Any]:
    """Two pictures beside each other."""
    shown = screen(tissue(400, 500, 1), 80, 100).copy()
    shown[100:600, 520:920] = tissue(400, 500, 2)
    return shown


def words_alone() -> NDArray[Any]:
    return screen(np.zeros((500, 500), np.uint8), 300, 120)


@pytest.mark.parametrize(
    "shown", [np.zeros((480, 640), np.uint8), np.full((480, 640), 130, np.uint8), words_alone(), page(), twice()]
)
def test_without_one_picture_there_is_no_box(shown: NDArray[Any]) -> None:
    assert field_of_view(shown) is None


def test_a_stamp_of_a_picture_is_not_taken_for_the_picture() -> None:
    assert field_of_view(screen(tissue(120, 90, 4), 60, 500)) is None


def test_text_that_touches_the_picture_moves_the_box_little() -> None:
    shown = Image.fromarray(screen(tissue(600, 560, 6), 200, 100))
    ImageDraw.Draw(shown).text((560, 640), "LEFT BREAST 3H MUSTERFRAU ANNA", fill=255, font=font(18))
    assert_near(field_of_view(np.asarray(shown)), 200, 100, 600, 560, slack=SLACK)


def kept_of(shown: NDArray[Any], lesion: Box | None = None, bounds: Bounds = DEFAULT_BOUNDS) -> Region:
    return exported_picture(Screen(shown), lesion, bounds)


def test_an_exported_screen_is_cut_to_the_picture_that_holds_the_lesion() -> None:
    shown = screen(tissue(600, 560, 1), 200, 100)
    kept = kept_of(shown, Box(300, 200, 50, 40))
    assert_near(Box(kept.left, kept.top, kept.width, kept.height), 200, 100, 600, 560)
    assert kept_of(shown, Box(20, 20, 50, 40)) == Region(0, 0, 1024, 768)
    assert kept_of(shown, bounds=SYNTHETIC_BOUNDS) == Region(0, 0, 1024, 768)


def test_of_two_pictures_on_an_exported_screen_the_lesion_chooses_and_else_both_stay() -> None:
    assert kept_of(twice()) == Region(0, 0, 1024, 768)
    assert kept_of(twice(), Box(600, 200, 50, 40)).left > 480


@pytest.mark.parametrize(
    "shown", [tissue(300, 260, 7), tissue(600, 500, 7), screen(tissue(200, 180, 1), 60, 40, (320, 240))]
)
def test_pictures_that_are_no_screens_are_kept_whole(shown: NDArray[Any]) -> None:
    assert kept_of(shown) == Region(0, 0, shown.shape[1], shown.shape[0])


def test_real_cropped_pictures_keep_their_lesions(busbra: Path) -> None:
    for path in sorted((busbra / "Images").iterdir())[::60]:
        with Image.open(path) as image, Image.open(busbra / "Masks" / path.name.replace("bus_", "mask_")) as mask:
            found, lesion = field_of_view(np.asarray(image)), box_of_mask(np.asarray(mask))
        assert found is not None
        assert lesion is not None
        assert found.x <= lesion.x
        assert found.y <= lesion.y
        assert found.x + found.w >= lesion.x + lesion.w
        assert found.y + found.h >= lesion.y + lesion.h
