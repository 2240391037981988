"""A warm start learns phantoms, at the times that it is told, in the numbers that it is given, and nothing else."""

from typing import Any

import pytest
import torch

from sonoshare_shared.science.model.adapter import adapter_digest, adapter_state, trained_parameters
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.tasks.files import read_task
from sonoshare_shared.science.tasks.phantoms import start_at_task, task_phantoms
from sonoshare_shared.science.tasks.warm_start import WarmStart, phantom_rows, warm_start

torch.set_num_threads(1)
CONSTANTS = WarmStart(steps=60, latest_time=150, phantoms=64)


def warmed(task: str = "diagnosis", constants: WarmStart = CONSTANTS) -> ConditionedUNet:
    model, _ = load_base("tiny")
    start_at_task(model, read_task(task))
    warm_start(model, trained_parameters(model, "affine"), read_task(task), constants)
    return model


@torch.no_grad()
def fresh_loss(model: ConditionedUNet) -> float:
    """Of phantoms that no warm start has seen, at early times."""
    constants = WarmStart(steps=1, latest_time=150, batch=64, seed=77)
    rows = phantom_rows(task_phantoms(read_task("diagnosis"), 64, seed=78, size=32), constants, 0)
    return float(denoising_loss(model, rows.images, rows.masks, rows.condition, rows.t, rows.noise).mean())


@pytest.fixture(scope="module")
def model() -> ConditionedUNet:
    return warmed()


def test_early_times_are_learned_from_phantoms_alone(model: ConditionedUNet) -> None:
    assert fresh_loss(model) < fresh_loss(load_base("tiny")[0]) - 0.002


def test_only_what_is_trained_moves(model: ConditionedUNet) -> None:
    base, trained = load_base("tiny")[0].state_dict(), trained_parameters(model, "affine")
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, base[name])}
    assert moved <= trained.keys()
    assert {"conv_out.weight", "class_embedding.weight"} <= moved
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("changed", [{"seed": 1}, {"latest_time": 999}, {"steps": 2}])
def test_the_adapter_is_a_function_of_the_constants(changed: Any) -> None:
    few = {"steps": 3, "latest_time": 150, "phantoms": 8}
    one, again, other = (warmed(constants=WarmStart(**each)) for each in (few, few, few | changed))
    digests = [adapter_digest(adapter_state(each, "affine")) for each in (one, again, other)]
    assert digests[0] == digests[1] != digests[2]


def test_a_task_with_classes_of_its_own_and_no_steps_at_all() -> None:
    cold, warm = (warmed("birads", WarmStart(steps=steps, latest_time=150)) for steps in (0, 1))
    plain, _ = load_base("tiny")
    start_at_task(plain, read_task("birads"))
    digests = [adapter_digest(adapter_state(each, "affine")) for each in (plain, cold, warm)]
    assert digests[0] == digests[1] != digests[2]


def test_rows_end_at_the_latest_time_and_show_every_condition_absent_at_times() -> None:
    constants = WarmStart(steps=1, latest_time=150, batch=200)
    rows = phantom_rows(task_phantoms(read_task("diagnosis"), 8, seed=1, size=32), constants, 0)
    assert 140 < int(rows.t.max()) <= 150
    assert 0 < int((rows.condition.labels == -1).sum()) < 60
    assert 0 < int(rows.condition.boxes.isnan().any(1).sum()) < 60
    assert bool((rows.condition.scanners == -1).all())
