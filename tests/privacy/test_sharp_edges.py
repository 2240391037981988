"""Misuses of the engine as a library that no other file tests; the list is docs/sharp-edges.md."""

import copy
import re
from pathlib import Path

import pytest
from tests.privacy.conftest import Small
from torch import nn

import sonoshare_privacy
from sonoshare_privacy.patient_gradients import PatientGradients
from sonoshare_shared.errors import ModelError

DOCS = Path(__file__).parents[2] / "docs"


def engine_of(model: nn.Module) -> PatientGradients:
    return PatientGradients(model, dict(model.named_parameters()), draws=2, clip_norm=1.0, clip_mode="clip", places=4)


def test_a_replaced_forward_is_refused(small: type[Small]) -> None:
    model = small()
    original = model.conv.forward
    vars(model.conv)["forward"] = lambda x: 2 * original(x)
    with pytest.raises(ModelError, match="replaced forward"):
        engine_of(model).__enter__()


def test_the_public_names_release_nothing_without_noise() -> None:
    assert "PatientDP" in sonoshare_privacy.__all__
    assert not {"PatientGradients", "PatientBuffer", "Grid"} & set(sonoshare_privacy.__all__)


def test_a_copy_of_the_engine_holds_no_right(small: type[Small]) -> None:
    twin = copy.deepcopy(engine_of(small()))
    assert not [name for name in dir(twin) if "release" in name or "steps" in name]


@pytest.mark.parametrize(
    "page", [DOCS / "sharp-edges.md", *sorted((DOCS / "proofs").glob("*.md"))], ids=lambda p: p.name
)
def test_every_test_that_the_pages_name_exists(page: Path) -> None:
    tests = Path(__file__).parent
    text = page.read_text(encoding="utf-8")
    for file, name in re.findall(r"`(test_\w+\.py)::(test_\w+?)(?:_?\.\.\.|_\*)?`", text):
        assert f"def {name}" in (tests / file).read_text(encoding="utf-8"), f"{file}::{name}"
    for file in re.findall(r"`tests/privacy/(test_\w+\.py)`", text):
        assert (tests / file).exists(), file
