"""Identifiers of patients: one form, none that hides a character, near and filled-in ones told."""

from pathlib import Path

import pytest

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.identifiers import filled_in, near_form, normal, unseen
from sonoshare_shared.science.labels import read_labels


@pytest.mark.parametrize("written", ["Mu\u0308ller 7", "M\u00fcller\u00a0\u00a07 ", "\uff2d\u00fcller \uff17"])
def test_identifiers_have_one_form(written: str) -> None:
    assert normal(written) == "M\u00fcller 7"
    assert not unseen(written)


@pytest.mark.parametrize(
    ("sign", "name"),
    [
        ("\u200b", "ZERO WIDTH SPACE (U+200B)"),
        ("\ufeff", "ZERO WIDTH NO-BREAK SPACE (U+FEFF)"),
        ("\u202e", "RIGHT-TO-LEFT OVERRIDE (U+202E)"),
        ("\u0007", "CONTROL CHARACTER (U+0007)"),
        ("\u3164", "HANGUL FILLER (U+3164)"),
        ("\ufe0f", "VARIATION SELECTOR-16 (U+FE0F)"),
    ],
)
def test_a_character_that_nobody_sees_is_refused_by_its_name(sign: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text(f"image,patient,label\na.png,se{sign}cret,benign\n", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_labels(tmp_path)
    assert f"line 2: column patient holds {name}" in str(refused.value)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(("one", "other"), [("007", "7"), ("AB1", "ab1"), ("AB-007", "ab 7")])
def test_near_identifiers_have_one_near_form(one: str, other: str) -> None:
    assert near_form(one) == near_form(other)


@pytest.mark.parametrize(("one", "other"), [("1-12", "11-2"), ("70", "7"), ("A1", "B1"), ("10", "1")])
def test_different_identifiers_have_different_near_forms(one: str, other: str) -> None:
    assert near_form(one) != near_form(other)


def test_what_a_system_fills_in_is_told_from_a_numbering() -> None:
    assert filled_in(["UNKNOWN", "Anon^ymous", "0000", "-", "99999", "12", "N/A"]) == {
        "UNKNOWN",
        "Anon^ymous",
        "0000",
        "-",
        "99999",
        "N/A",
    }
    assert filled_in(["000", "001", "99", "patient-0"]) == frozenset()
