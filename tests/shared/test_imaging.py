from pathlib import Path

import numpy as np
import pytest

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.imaging import box_of_mask, mask_to_grid, save_png, to_grid
from sonoshare_shared.science.pictures.bounds import SYNTHETIC_BOUNDS
from sonoshare_shared.science.pictures.reading import read_file


def test_to_grid_averages_over_area() -> None:
    image = np.zeros((8, 4), dtype=np.uint8)
    image[:4, :2] = 255
    assert to_grid(image, 2).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert to_grid(image, 1)[0, 0] == pytest.approx(0.25)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_pictures_span_their_whole_range(dtype: type) -> None:
    image = np.full((10, 20), np.iinfo(dtype).max, dtype=dtype)  # type: ignore[var-annotated]
    assert np.allclose(to_grid(image, 16), 1.0)


def test_float_pictures_are_clipped_and_must_be_finite() -> None:
    assert to_grid(np.full((4, 4), 1.5), 8).max() == 1.0
    with pytest.raises(InputError):
        to_grid(np.full((4, 4), np.nan), 8)


@pytest.mark.parametrize("shape", [(4, 4, 3), (0, 4), (4,)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        to_grid(np.zeros(shape), 8)


def test_mask_to_grid_takes_any_non_zero_value() -> None:
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[:8] = 1
    assert mask_to_grid(mask, 4).tolist() == [[True] * 4] * 2 + [[False] * 4] * 2


def test_box_fractions() -> None:
    assert Box(10, 20, 30, 40).fractions(100, 200) == pytest.approx((0.1, 0.1, 0.3, 0.2))
    assert Box(-1, 0, 101, 10).fractions(100, 10) == pytest.approx((0.0, 0.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 5),
        (0, 0, 5),
        (90, 0, 20, 5),
        (-5, 0, 9, 5),
        (0, 0, float("nan"), 5),
        (0, 195, 5, 10),
        (100, 10, 1, 20),  # within the slack, and beside the picture
        (-1, 10, 0.5, 20),
        (10, -1, 20, 1),
        (10, 200.5, 20, 0.5),
    ],
)
def test_a_wrong_box_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        Box.of(box).fractions(100, 200)


def test_box_of_mask() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:4, 5:10] = True
    assert box_of_mask(mask) == (5, 2, 5, 2)
    assert Box(5, 2, 5, 2).fractions(20, 10).pixels(20, 10) == pytest.approx((5, 2, 5, 2))
    assert box_of_mask(np.zeros((4, 4))) is None


def test_png_round_trip(tmp_path: Path) -> None:
    levels = np.arange(32 * 32).reshape(32, 32).astype(np.uint8)
    save_png(tmp_path / "a.png", levels)
    assert np.array_equal(read_file(tmp_path / "a.png").pixels, levels)
    save_png(tmp_path / "b.png", levels / 255.0)
    assert np.array_equal(read_file(tmp_path / "b.png").pixels, levels)
    save_png(tmp_path / "c.png", levels > 100)
    assert set(np.unique(read_file(tmp_path / "c.png", bounds=SYNTHETIC_BOUNDS).pixels)) == {0, 255}


def test_what_is_not_a_picture_is_refused_by_name_only(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(InputError, match="is not there"):
        read_file(path)
    path.write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"x\.png: (the content is broken|neither DICOM)") as refused:
        read_file(path)
    assert str(tmp_path) not in str(refused.value)
    save_png(path, np.zeros((64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"x\.png: (the content is broken|neither DICOM)"):
        read_file(path)
