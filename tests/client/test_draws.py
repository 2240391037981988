"""The trainer's draws, and the engine's self-check on adapters that have moved."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from sonoshare_client.agent.draws import PatientDraws, loss_of, patient_rows, probe
from sonoshare_client.vault.dataset import PatientArrays
from sonoshare_privacy.patient_gradients import PatientGradients, check_engine
from sonoshare_privacy.schedule import round_optimiser
from sonoshare_shared.errors import ModelError
from sonoshare_shared.science.model.adapter import trained_parameters
from sonoshare_shared.science.model.base import load_base


def patient(images: int = 3, size: int = 32) -> PatientArrays:
    rng = np.random.default_rng(0)
    return PatientArrays(
        pseudonym="p",
        held_out=False,
        images=rng.random((images, size, size), dtype=np.float32),
        masks=rng.random((images, size, size)) > 0.5,
        has_mask=np.array([True] * (images - 1) + [False]),
        boxes=np.array([[0.1, 0.2, 0.3, 0.4]] * images, np.float32),
        labels=np.zeros(images, np.int64),
        scanners=np.full(images, -1, np.int64),
    )


def test_mirroring_turns_image_mask_and_box_together() -> None:
    one = patient()
    rows = patient_rows(one, torch.tensor([0, 0]), torch.tensor([False, True]))
    assert torch.equal(rows["images"][1], rows["images"][0].flip(-1))
    assert torch.equal(rows["masks"][1], rows["masks"][0].flip(-1))
    np.testing.assert_allclose(rows["boxes"][1], [1 - 0.1 - 0.3, 0.2, 0.3, 0.4], rtol=1e-6)


def test_an_unknown_mask_is_absent_from_the_loss() -> None:
    rows = patient_rows(patient(), torch.tensor([0, 2]), torch.tensor([False, False]))
    assert not rows["masks"][0].isnan().any()
    assert rows["masks"][1].isnan().all()


def test_draws_depend_on_the_generator_alone() -> None:
    draws = PatientDraws([patient()], 4, torch.device("cpu"))
    first, again = (draws.draw(0, torch.Generator().manual_seed(1)) for _ in range(2))
    other = draws.draw(0, torch.Generator().manual_seed(2))
    assert all(torch.equal(first[name], again[name]) or first[name].isnan().any() for name in first)
    assert not torch.equal(first["noise"], other["noise"])
    assert all(len(value) == 4 for value in first.values())


@pytest.mark.parametrize("moved", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("profile", ["tiny", "small"])
def test_the_self_check_passes_on_adapters_that_training_has_moved(profile: str, moved: float) -> None:
    model, _ = load_base(profile)
    parameters = trained_parameters(model, "affine")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters.values():
            rms = parameter.square().mean().sqrt().clamp_min(0.02)
            parameter.add_(moved * rms * torch.randn(parameter.shape, generator=generator))
    engine = PatientGradients(model, parameters, draws=2, clip_norm=1.0, clip_mode="clip", places=4)
    check_engine(engine, probe(model, 2), loss_of(model))


def test_the_self_check_still_refuses_a_leaf_whose_rule_is_slightly_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = load_base("tiny")
    engine = PatientGradients(
        model, trained_parameters(model, "affine"), draws=2, clip_norm=1.0, clip_mode="clip", places=4
    )
    right = engine.rows_of

    def wrong(batch: Any, loss: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows, losses = right(batch, loss)
        start = rows.shape[1] // 2
        rows[:, start : start + 64] *= 1.01
        return rows, losses

    monkeypatch.setattr(engine, "rows_of", wrong)
    with pytest.raises(ModelError):
        check_engine(engine, probe(model, 2), loss_of(model))


def test_the_learning_rate_falls_over_rounds_without_a_jump() -> None:
    rounds = [round_optimiser(0.02, 3, number) for number in (1, 2, 3)]
    assert rounds[0].learning_rate == pytest.approx(0.02)
    for before, after in itertools.pairwise(rounds):
        assert before.learning_rate * before.final_fraction == pytest.approx(after.learning_rate)
    assert rounds[-1].learning_rate * rounds[-1].final_fraction == pytest.approx(0.002)


def test_probes_show_every_kind_of_row() -> None:
    model, _ = load_base("tiny")
    whole, scanner, label, box, mask, nothing, absent = probe(model, 3)
    assert all(len(rows["t"]) == 3 for rows in (whole, scanner, label, box, mask, nothing, absent))
    for rows in (whole, scanner, label, box, mask, nothing, absent):
        assert bool((rows["scanners"] == -1).all()) == any(rows is one for one in (scanner, absent))
        assert bool((rows["labels"] == -1).all()) == any(rows is one for one in (label, absent))
        assert bool(rows["boxes"].isnan().all()) == any(rows is one for one in (box, absent))
        assert bool(rows["masks"].isnan().all()) == any(rows is one for one in (mask, absent))
    assert not nothing["boxes"][:, 2:].any()
    assert whole["boxes"][:, 2:].all()
