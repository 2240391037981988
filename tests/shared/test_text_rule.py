"""Which text in a picture names nobody and stays, and which goes."""

import pytest
from tests.shared.written import HARMLESS, IDENTIFIERS

from sonoshare_shared.science.pictures.text.rule import may_stay

LINE = 6.0  # length of a line over its height


@pytest.mark.parametrize("words", IDENTIFIERS)
def test_names_dates_numbers_and_places_go(words: str) -> None:
    assert not may_stay(words, 0.99, LINE)


@pytest.mark.parametrize("words", HARMLESS)
def test_scales_measurements_settings_and_calipers_stay(words: str) -> None:
    assert may_stay(words, 0.99, max(1.0, 0.6 * len(words)))


@pytest.mark.parametrize(
    "words",
    [
        *("1961", "04071961", "04 07 61", "04/07", "12-03-71", "12:34", "040 718 22", "1.2.3", "٠٤٠٧١٩٦١"),
        *("AB", "M 45", "F 45Y", "MI", "Dist", "Gen", "MI Anna", "12.3 mm Anna", "A B 5", "Ax12", "12 Elm", "1234 mm"),
        *("王芳", "GE", "\uff17\uff17\uff13\uff14", "12.345", "9H", "no 5"),
    ],
)
def test_what_only_looks_like_a_measurement_goes(words: str) -> None:
    assert not may_stay(words, 0.99, LINE)


def test_what_cannot_be_read_goes_unless_it_is_one_sign() -> None:
    assert not may_stay("", 0.0, LINE)
    assert not may_stay("12.3 mm", 0.4, LINE)
    assert not may_stay("103 707", 0.64, 2.7)  # a Hebrew name
    assert may_stay("", 0.0, 1.1)
    assert may_stay("大", 0.4, 1.1)


def test_a_caliper_with_its_number_stays_and_two_letters_side_by_side_go() -> None:
    assert may_stay("3t+", 0.61, 1.05)
    assert may_stay("XK", 0.83, 1.1)
    assert not may_stay("GE", 0.83, 1.2)
    assert not may_stay("AM", 0.61, 1.6)
    assert not may_stay("AM", 0.97, 1.05)


def test_a_long_line_of_which_one_sign_is_read_goes() -> None:
    assert not may_stay("I", 0.99, LINE)


def test_hostile_text_is_judged_in_no_time() -> None:
    assert not may_stay("1 " * 5000 + "!", 0.99, LINE)
    assert not may_stay("mm 1" * 5000, 0.99, LINE)
