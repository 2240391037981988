"""The trainer's draws, and the engine's self-check on adapters that have moved."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.privacy.made_up_memory import MadeUp

import sonoshare_client.agent.draws as draws_module
from sonoshare_client.agent.draws import PatientDraws, loss_of, near, probe, rows_of
from sonoshare_client.vault.cohort import Cohort, PatientArrays
from sonoshare_privacy.mechanisms.draw_words import public_keys
from sonoshare_privacy.patient_gradients import PatientGradients, check_engine
from sonoshare_privacy.schedule import round_optimiser
from sonoshare_shared.errors import ModelError
from sonoshare_shared.science.model.adapter import prepare, trained_parameters
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.diffusion import TIMES

CPU = torch.device("cpu")


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


def pictures() -> Cohort:
    return Cohort.of([patient(2), patient()])


def test_mirroring_turns_image_mask_and_box_together() -> None:
    rows = rows_of(pictures(), torch.tensor([0, 0]), torch.tensor([False, True]))
    assert torch.equal(rows["images"][1], rows["images"][0].flip(-1))
    assert torch.equal(rows["masks"][1], rows["masks"][0].flip(-1))
    np.testing.assert_allclose(rows["boxes"][1], [1 - 0.1 - 0.3, 0.2, 0.3, 0.4], rtol=1e-6)


def test_an_unknown_mask_is_absent_from_the_loss() -> None:
    rows = rows_of(pictures(), torch.tensor([2, 4]), torch.tensor([False, True]))
    assert not rows["masks"][0].isnan().any()
    assert rows["masks"][1].isnan().all()


def test_draws_depend_on_the_key_alone() -> None:
    draws = PatientDraws([patient()], 4, CPU)
    first, again = (draws.draw(torch.tensor([0]), public_keys(1, 1)) for _ in range(2))
    other = draws.draw(torch.tensor([0]), public_keys(1, 2))
    assert all(torch.equal(first[name].nan_to_num(9), again[name].nan_to_num(9)) for name in first)
    assert not torch.equal(first["noise"], other["noise"])
    assert all(len(value) == 4 for value in first.values())


def test_a_patients_rows_are_the_same_in_every_place_and_company() -> None:
    """Bit by bit: of their own images and key, whoever is drawn beside them."""
    patients = [replace(patient(1 + i % 4), labels=np.full(1 + i % 4, i)) for i in range(9)]
    drawing, keys = PatientDraws(patients, 2, CPU), public_keys(9, 5)
    alone = [drawing.draw(torch.tensor([i]), keys[i : i + 1]) for i in range(9)]
    for order in ([3], [8, 3], [0, 1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 1, 0], [3, 1, 4, 0, 5]):
        drawn = drawing.draw(torch.tensor(order), keys[order])
        for place, index in enumerate(order):
            for name, rows in drawn.items():
                mine = rows[2 * place : 2 * place + 2]
                assert torch.equal(mine.nan_to_num(9), alone[index][name].nan_to_num(9)), name
    without = PatientDraws(patients[3:], 2, CPU).draw(torch.tensor([0]), keys[3:4])
    assert all(torch.equal(without[name].nan_to_num(9), alone[3][name].nan_to_num(9)) for name in without)


def test_every_image_is_drawn_mirrored_or_not_at_every_time_with_fresh_noise() -> None:
    several = patient(5)
    several.images[:] = np.arange(5, dtype=np.float32)[:, None, None] / 8
    several.images[:, :, 0] += 0.01  # so that a mirror shows
    drawn = PatientDraws([several], 4, CPU).draw(torch.zeros(500, dtype=torch.int64), public_keys(500, 3))
    left, right = drawn["images"][:, 0, 0, 0], drawn["images"][:, 0, 0, -1]
    counts = torch.bincount((torch.minimum(left, right) * 8).round().long(), minlength=5)
    assert len(counts) == 5
    assert int(counts.min()) > 320
    assert 0.45 < float((left > right).double().mean()) < 0.55
    assert torch.equal((drawn["t"].view(500, 4) * 4) // TIMES, torch.arange(4).expand(500, -1)), "one an interval"
    assert int(drawn["t"].min()) < 10
    assert int(drawn["t"].max()) > 990
    assert len({float(value) for value in drawn["noise"][:, 0, 0, 0]}) > 1990
    assert abs(float(drawn["noise"].double().std()) - 1) < 0.01


def test_nobody_can_be_held_and_not_drawn() -> None:
    drawing = PatientDraws((), 2, CPU)
    with pytest.raises(IndexError):
        drawing.draw(torch.tensor([0]), public_keys(1, 1))
    assert drawing.hold([patient()]) == 1
    with pytest.raises(IndexError):
        drawing.draw(torch.tensor([1]), public_keys(1, 1))


def test_pictures_move_to_a_device_that_has_room_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    held = pictures()
    taken = held.bytes_taken
    assert near(held, CPU) is held
    for free, moved in ((4 * taken, True), (4 * taken - 4, False)):
        monkeypatch.setattr(draws_module, "memory_of", lambda _, free=free: MadeUp(free, 0, 0))
        assert (near(held, torch.device("meta")).images.device.type == "meta") == moved


def test_draws_of_a_study_that_refines_end_at_its_last_time() -> None:
    draws, all_times = (PatientDraws([patient()], 8, CPU, latest) for latest in (159, 999))
    early, late = (one.draw(torch.tensor([0]), public_keys(1, 1)) for one in (draws, all_times))
    assert sorted((early["t"] // 20).tolist()) == list(range(8))
    assert int(late["t"].max()) > 800
    assert torch.equal(early["noise"], late["noise"])


@pytest.mark.parametrize(
    ("profile", "moved", "trained"),
    [
        *((profile, moved, "affine") for profile in ("tiny", "small") for moved in (0.0, 0.05, 0.3)),
        ("tiny", 0.3, "outer"),
    ],
)
def test_the_self_check_passes_on_adapters_that_training_has_moved(profile: str, moved: float, trained: str) -> None:
    model, _ = load_base(profile)
    parameters = trained_parameters(model, trained)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters.values():
            rms = parameter.square().mean().sqrt().clamp_min(0.02)
            parameter.add_(moved * rms * torch.randn(parameter.shape, generator=generator))
    engine = PatientGradients(model, parameters, draws=2, clip_norm=1.0, clip_mode="clip", places=4)
    check_engine(engine, probe(model, 2), loss_of(model))


def test_the_self_check_passes_where_a_nearly_constant_norm_magnifies_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Low-rank layers that have moved: in float32 autograd and engine are both off by up to a hundredth."""
    model, _ = load_base("small")
    prepare(model, "lora")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("up.weight"):
                parameter.copy_(0.005 * torch.randn(parameter.shape, generator=generator))
    parameters = trained_parameters(model, "lora")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    engine = PatientGradients(model, parameters, draws=2, clip_norm=1.0, clip_mode="clip", places=4)
    check_engine(engine, probe(model, 2), loss_of(model))
    assert engine.buffer.dtype is torch.float32
    assert all(value.dtype is torch.float32 for value in parameters.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    right = engine.rows_of

    def wrong(batch: Any, loss: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows, losses = right(batch, loss)
        engine.buffer.view(parameters["unet.down_blocks.1.resnets.0.conv_shortcut.up.weight"]).mul_(1 + 1e-6)
        return rows, losses

    monkeypatch.setattr(engine, "rows_of", wrong)
    with pytest.raises(ModelError, match="not the one autograd finds"):
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
