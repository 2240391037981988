"""The page of reasons is the list of reasons."""

from pathlib import Path

import pytest

from sonoshare_client.intake.reasons import Flag, SetAside
from sonoshare_client.intake.reasons_page import page
from sonoshare_shared.science.pictures.reasons import Because, Reason

PAGE = Path(__file__).resolve().parents[2] / "docs" / "intake-reasons.md"
EVERY = [*Reason, *SetAside, *Flag]


def test_the_page_is_what_the_code_says() -> None:
    remedy = "run: python -m sonoshare_client.intake.reasons_page > docs/intake-reasons.md"
    assert PAGE.read_text(encoding="utf-8") == page(), remedy


@pytest.mark.parametrize("reason", EVERY, ids=lambda reason: reason.name)
def test_a_reason_says_what_is_true_and_what_to_do(reason: Because) -> None:
    assert reason.fact
    assert reason.remedy
    assert reason.value == f"{reason.fact}; {reason.remedy}"
    assert "|" not in reason.value
    assert [other for other in EVERY if other.fact == reason.fact] == [reason]
