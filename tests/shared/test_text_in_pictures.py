"""Text in a picture is suspected, read, judged and taken out; what cannot be taken out is set aside."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.shared.screens import tissue
from tests.shared.written import HARMLESS, IDENTIFIERS, Written, drawn_at_random, place, stamped, write

from sonoshare_shared.science.box import Box
from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.text.blanking import covered, filled
from sonoshare_shared.science.pictures.text.clearing import Cleared, lesion_pixels, without_text
from sonoshare_shared.science.pictures.text.likely import text_is_likely
from sonoshare_shared.science.pictures.text.lines import Line, lines_of
from sonoshare_shared.science.pictures.text.reading import ReadLine, TextReader, text_reader

PLANTS = 64


@dataclass
class Told:
    """A reader that says what it was told to say, once a look."""

    looks: list[list[ReadLine]]
    seen: list[NDArray[Any]] = field(default_factory=list)

    def __call__(self, grey: NDArray[np.uint8], /) -> list[ReadLine]:
        self.seen.append(grey)
        return self.looks.pop(0) if self.looks else []


def said(text: str, x: float = 100, y: float = 60, length: float = 80, height: float = 12) -> ReadLine:
    return ReadLine(Line(x, y, length, height), text, 0.99)


def cleared(reader: TextReader | None, lesion: NDArray[np.bool_] | None = None, *, must: bool = True) -> Cleared:
    return without_text(tissue(300, 200, 1), lesion, lambda: reader, must=must)


# The cheap look.


def test_planted_text_is_suspected_and_clean_tissue_mostly_not() -> None:
    rng = np.random.default_rng(3)
    seen = alarms = 0
    for number in range(PLANTS):
        picture = tissue(int(rng.integers(280, 520)), int(rng.integers(240, 460)), number, number % 4)
        written = drawn_at_random(rng, IDENTIFIERS[number % len(IDENTIFIERS)])
        seen += text_is_likely(write(picture, written, *place(rng, picture.shape, written)))
        alarms += text_is_likely(picture)
    assert seen >= 0.95 * PLANTS
    assert alarms <= 0.35 * PLANTS


@pytest.mark.parametrize(
    ("written", "brightened"), [(Written("MUSTERFRAU, ANNA", size=44), 0), (Written("MUSTERFRAU, ANNA", grey=0), 60)]
)
def test_large_letters_and_dark_letters_are_suspected(written: Written, brightened: int) -> None:
    picture = np.minimum(tissue(640, 480, 2).astype(int) + brightened, 255).astype(np.uint8)
    assert text_is_likely(write(picture, written, 60, 200))


@pytest.mark.parametrize("shape", [(1, 1), (8, 300), (21, 21), (40, 40)])
def test_small_pictures_are_looked_at_without_complaint(shape: tuple[int, int]) -> None:
    assert not text_is_likely(np.zeros(shape, np.uint8))


def test_noise_without_strokes_is_no_text() -> None:
    assert not text_is_likely(np.random.default_rng(0).integers(0, 256, (96, 128), dtype=np.uint8))


# What replaces text.


def test_only_what_is_blank_changes_and_nothing_is_copied_from_what_is_avoided() -> None:
    picture = np.zeros((120, 160), np.uint8)
    picture[:, 80:] = 200
    blank, avoid = np.zeros((2, 120, 160), np.bool_)
    blank[50:62, 20:60] = True
    avoid[:, 80:] = True
    result, places = filled(np.where(blank, np.uint8(255), picture), blank, avoid)
    assert np.array_equal(result[~blank], picture[~blank])
    assert not result[blank].any()
    assert places == [(20, 50, 40, 12)]


def test_what_replaces_text_is_as_bright_as_its_surroundings_and_not_flat() -> None:
    picture = tissue(300, 240, 5)
    blank = covered(picture.shape, [Line(150, 120, 120, 16)])
    result, _ = filled(np.where(blank, np.uint8(255), picture), blank, np.zeros_like(blank))
    assert result[blank].mean() == pytest.approx(picture[blank].mean(), rel=0.35)
    assert result[blank].std() > 0.3 * picture[blank].std()


def test_where_nothing_clear_is_near_the_surroundings_are_continued() -> None:
    blank = np.zeros((20, 40), np.bool_)
    blank[3:17, 2:38] = True
    result, _ = filled(np.where(blank, np.uint8(255), np.uint8(50)), blank, np.zeros_like(blank))
    assert set(result.ravel().tolist()) == {50}


def test_a_slanted_line_is_covered_along_its_slope() -> None:
    sheet = covered((100, 100), [Line(50, 50, 60, 4, np.pi / 4)], margin=False)
    assert sheet[50, 50]
    assert sheet[68, 68]
    assert not sheet[68, 32]


# The order: suspect, read, blank, read again.


def test_without_suspicion_nothing_is_read_unless_it_must_be() -> None:
    reader = Told([])
    assert cleared(reader, must=False).blanked == ()
    assert reader.seen == []
    assert cleared(reader, must=True).blanked == ()
    assert len(reader.seen) == 1


@pytest.mark.parametrize("must", [True, False])
def test_without_a_reader_a_suspected_picture_is_set_aside(*, must: bool) -> None:
    picture = tissue(300, 200, 1) if must else write(tissue(300, 200, 1), Written("MUSTERFRAU, ANNA"), 20, 20)
    with pytest.raises(Refused) as refusal:
        without_text(picture, None, lambda: None, must=must)
    assert refusal.value.reason is Reason.TEXT_UNREAD


def test_what_may_stay_is_left_as_it_is() -> None:
    result = cleared(Told([[said("12.3 mm"), said("+", length=10)]]))
    assert np.array_equal(result.pixels, tissue(300, 200, 1))
    assert result.blanked == ()


def test_a_measurement_that_blanking_would_cut_into_goes_with_the_name_beside_it() -> None:
    reader = Told([[said("MUSTERFRAU", y=60), said("12.3 mm", y=71), said("3.1 mm", y=150)]])
    result = cleared(reader)
    changed = result.pixels != tissue(300, 200, 1)
    assert changed[70:74].any()
    assert not changed[140:160].any()
    assert len(reader.seen) == 2
    assert np.array_equal(reader.seen[1], result.pixels)


def test_a_line_that_shows_only_after_blanking_is_blanked_too() -> None:
    result = cleared(Told([[said("MUSTERFRAU")], [said("ANNA", y=150)]]))
    assert len(result.blanked) == 2


def test_text_that_can_still_be_read_sets_the_picture_aside() -> None:
    looks = [[said("MUSTERFRAU")], [said("ANNA", y=150)], [said("ANNA", y=100, length=30)]]
    with pytest.raises(Refused) as refusal:
        cleared(Told(looks))
    assert refusal.value.reason is Reason.TEXT_REMAINS


def test_text_over_the_lesion_sets_the_picture_aside_and_beside_it_does_not() -> None:
    lesion = np.zeros((200, 300), np.bool_)
    lesion[60:100, 80:160] = True
    with pytest.raises(Refused) as refusal:
        cleared(Told([[said("MUSTERFRAU")]]), lesion)
    assert refusal.value.reason is Reason.TEXT_OVER_LESION
    assert cleared(Told([[said("MUSTERFRAU", y=150)]]), lesion).blanked


def test_text_over_much_of_the_picture_sets_it_aside() -> None:
    with pytest.raises(Refused) as refusal:
        cleared(Told([[said("MUSTERFRAU", x=150, y=20 + 20 * row, length=280, height=16) for row in range(8)]]))
    assert refusal.value.reason is Reason.TEXT_COVERS


def test_the_lesion_is_the_mask_else_the_box() -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[3, 4] = 1
    assert lesion_pixels((20, 40), mask, Box(0, 0, 1, 1)).sum() == 1
    assert lesion_pixels((20, 40), None, Box(0.5, 0.5, 0.25, 0.25)).sum() == 50
    assert lesion_pixels((20, 40), None, None) is None


def test_cores_of_a_map_become_lines_and_specks_do_not() -> None:
    probability = np.zeros((100, 200), np.float32)
    probability[20:28, 30:130] = 0.9
    probability[60, 60] = 0.9
    for step in range(90):
        probability[40 + step // 2 : 48 + step // 2, 100 + step // 1 : 104 + step] = 0.8
    level, slanted = lines_of(probability)
    assert level.angle == 0.0
    assert level.bounds(200, 100)[0] < 30
    assert level.bounds(200, 100)[3] > 28
    assert slanted.angle == pytest.approx(np.arctan(0.5), abs=0.08)


# The reader itself.


@pytest.fixture(scope="module")
def reader() -> TextReader:
    made = text_reader()
    assert made is not None, "pip install 'sonoshare[client]'"
    return made


def board(words: tuple[str, ...], seed: int, turned: tuple[int, ...] = (0,)) -> tuple[NDArray[Any], list[Any]]:
    """A dim picture with words in it, one below the other; where they are, and their shapes."""
    picture, places = (tissue(560, 460, seed, seed % 4) * 0.6).astype(np.uint8), []
    for row, word in enumerate(words):
        written = Written(word, size=17, grey=235, turned=turned[row % len(turned)])
        left, top = 20 + 37 * row if written.turned == 90 else 30 + 40 * (row % 3), 20 + 62 * row
        letters = np.asarray(stamped(written)) > 128
        height, width = letters.shape
        top = min(top, 455 - height)
        picture = write(picture, written, left, top)
        places.append((slice(top, top + height), slice(left, left + width), letters))
    return picture, places


@pytest.mark.parametrize(
    ("words", "turned"),
    [
        (("MUSTERFRAU, ANNA", "Geb. 04.07.1961", "MRN 00482913", "Nguyễn Thị Hạnh", "14:22:07"), (0,)),
        (("Иванова Мария", "Παπαδοπούλου Ελένη", "فاطمة الزهراء", "רחל כהן", "Ժաննա Պետրոսյան", "ანა ბერიძე"), (0,)),
        (("MUSTERFRAU, ANNA", "+49 30 901820", "St Elsewhere Hospital"), (8, 90, -6)),
    ],
)
def test_planted_identifiers_are_gone_and_what_is_beside_them_is_as_it_was(
    words: tuple[str, ...], turned: tuple[int, ...], reader: TextReader
) -> None:
    picture, places = board(words, 3, turned)
    result = without_text(picture, None, lambda: reader, must=False)
    changed = result.pixels != picture
    for rows, columns, letters in places:
        assert changed[rows, columns][letters].mean() > 0.97
    assert len(result.blanked) >= len(words) - 1  # two that touch are one place
    outside = np.ones(picture.shape, np.bool_)
    for x, y, w, h in result.blanked:
        outside[y : y + h, x : x + w] = False
    assert not changed[outside].any()


def test_measurements_and_settings_are_read_and_stay(reader: TextReader) -> None:
    words = tuple(word for word in HARMLESS if len(word) > 3)[:6]
    picture, _ = board(words, 6)
    assert without_text(picture, None, lambda: reader, must=True).blanked == ()
    found = "".join(line.text for line in reader(picture)).replace(" ", "")
    assert all(word.replace(" ", "") in found for word in ("12.3 mm", "MI 1.2"))


def test_clean_tissue_is_left_alone_by_the_reader(reader: TextReader) -> None:
    for seed in range(4):
        picture = tissue(320, 260, seed, seed)
        assert without_text(picture, None, lambda: reader, must=True).blanked == ()


def test_the_same_picture_is_cleared_alike_every_time(reader: TextReader) -> None:
    picture, _ = board(("MUSTERFRAU, ANNA",), 2)
    one, other = (without_text(picture, None, lambda: reader, must=True) for _ in range(2))
    assert np.array_equal(one.pixels, other.pixels)
    assert one.blanked == other.blanked
