"""docs/cases.md is true: every number that is cited stands in it, and every built row is held by tests that exist."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cases.md").read_text(encoding="utf-8")
SOURCES = ("shared", "privacy", "client", "server", "deploy", "tests", "benchmarks")

_ROW = re.compile(r"^\| (\d+) \| .+ \| (.+) \|$", re.MULTILINE)
_HELD = re.compile(r"^- \*\*(\d+)\*\* `([^`]+)`:((?: [^\n]+)?(?:\n  [^\n]+)*)", re.MULTILINE)
_IN_A_NAME = re.compile(r"\bcases?_((?:\d+_(?:and_)?)+)")
_IN_WORDS = re.compile(r"\bCASES? ((?:\d+(?:(?:, | and |-|, and )(?=\d))?)+)")

ROWS = {int(number): answer for number, answer in _ROW.findall(PAGE)}
HELD = [(int(number), path, re.findall(r"`(\w+)`", names)) for number, path, names in _HELD.findall(PAGE)]
WITHOUT_TESTS = ("(*not built*)", "(*nothing to attack*)")


def cited() -> dict[int, str]:
    """Every number that code or a test cites, with a file that does."""
    found: dict[int, str] = {}
    for room in SOURCES:
        for path in sorted((ROOT / room).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for numbers in (*_IN_A_NAME.findall(text), *_IN_WORDS.findall(text)):
                found |= {int(number): path.relative_to(ROOT).as_posix() for number in re.findall(r"\d+", numbers)}
    return found


@cache
def functions_of(path: str) -> frozenset[str]:
    return frozenset(re.findall(r"^def (\w+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))


def test_numbers_run_from_one_without_a_gap() -> None:
    assert list(ROWS) == list(range(1, len(ROWS) + 1))


def test_every_number_that_is_cited_stands_in_the_table() -> None:
    assert {number: path for number, path in cited().items() if number not in ROWS} == {}


def test_no_entry_is_passed_over_however_it_is_broken_into_lines() -> None:
    assert len(HELD) == len(re.findall(r"^- \*\*\d+\*\* `", PAGE, re.MULTILINE))
    assert len(re.findall(r"`test_\w+`", PAGE)) == sum(len(names) for _, _, names in HELD)


def test_every_test_that_the_page_names_exists() -> None:
    missing = [f"{path}::{name}" for _, path, names in HELD for name in names if name not in functions_of(path)]
    assert missing == []
    assert all(names for _, _, names in HELD)


def test_every_built_row_is_held_by_a_test_and_no_other() -> None:
    held = {number for number, _, _ in HELD}
    assert held == {number for number, answer in ROWS.items() if not answer.endswith(WITHOUT_TESTS)}
