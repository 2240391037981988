"""What is done with pooled sums: the coordinator's step, and the test of their noise."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr
from torch.nn import Parameter

from sonoshare_privacy.mechanisms.gaussian import Grid, gaussian_integers
from sonoshare_privacy.noisy_adam import NoisyAdam
from sonoshare_privacy.optimiser import Optimiser, rate_at
from sonoshare_privacy.pooled_optimiser import PooledState, first_state, stepped
from sonoshare_privacy.pooled_release import PooledSum, share_deviation
from sonoshare_privacy.sum_check import FALSE_ALARM, check_sums, numbers_to_notice, plausible, smallest_noticed
from sonoshare_privacy.update_bound import step_reach, tensor_scale
from sonoshare_shared.errors import InputError

NUMBERS, STEPS = 9_680, 8
GRID = Grid(0.5, 1.2, NUMBERS + 1)


def adapter(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return {
        "b.weight": random.normal(0, 0.4, (6, 5)).astype(np.float32),
        "a.bias": np.zeros(7, np.float32),
    }


def run(gradients: NDArray[np.float64], tensors: dict[str, NDArray[np.float32]]) -> PooledState:
    constants = Optimiser()
    state = first_state(tensors, constants)
    for gradient in gradients:
        state = stepped(state, gradient, constants, total=len(gradients))
    return state


def test_the_pooled_optimiser_is_the_hospitals_optimiser_in_more_digits() -> None:
    tensors, gradients = adapter(), np.random.default_rng(1).normal(0, 3e-3, (12, 37))
    parameters = {name: Parameter(torch.from_numpy(value.copy())) for name, value in tensors.items()}
    adam = NoisyAdam(parameters, Optimiser(), total_steps=12)
    for gradient in gradients:
        adam.step(torch.from_numpy(gradient))
    state = run(gradients, tensors)
    for name, value in state.tensors().items():
        assert np.allclose(value, parameters[name].detach().numpy(), rtol=1e-5, atol=1e-6)
    adam.finish()
    for name, value in state.averaged().items():
        assert value.shape == tensors[name].shape
        assert np.allclose(value, parameters[name].detach().numpy(), rtol=1e-5, atol=1e-6)


def test_who_was_shown_the_sums_takes_the_same_steps_bit_by_bit() -> None:
    """In pieces, from other memory layouts, one coordinate at a time: no bit depends on how numbers are laid out."""
    gradients = np.random.default_rng(2).normal(0, 1e-2, (5, 37))
    state = run(gradients, adapter())
    wide = np.zeros((5, 74))
    wide[:, ::2] = gradients
    again = run(wide[:, ::2], {name: np.asfortranarray(value) for name, value in adapter().items()})
    for name in ("iterate", "average", "first", "second"):
        assert getattr(state, name).tobytes() == getattr(again, name).tobytes()
    odd = replace(first_state(adapter(), Optimiser()), shapes={"one": (1,)}, scales=(state.scales[0],))
    for place in (0, 13, 29):
        held = {name: getattr(odd, name)[[place]] for name in ("iterate", "average", "first", "second")}
        alone = replace(odd, **held)
        for gradient in gradients:
            alone = stepped(alone, gradient[[place]], Optimiser(), total=5)
        assert alone.iterate[0] == state.iterate[place]


def test_another_sum_gives_another_step() -> None:
    gradients = np.random.default_rng(3).normal(0, 1e-2, (3, 37))
    changed = gradients.copy()
    changed[1, 36] *= 1 + 1e-6
    assert run(gradients, adapter()).first.tobytes() != run(changed, adapter()).first.tobytes()


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.sampled_from([1e-300, 1e-30, 1e-6, 1.0, 1e30, 1e150]))
@settings(max_examples=80, deadline=None)
def test_no_sums_move_a_number_further_than_the_plan_allows(steps: int, seed: int, size: float) -> None:
    random = np.random.default_rng(seed)
    growing = (Optimiser.second_moment / Optimiser.momentum) ** np.arange(steps)[:, None]
    gradients = size * np.where(random.random((steps, 37)) < 0.5, growing, random.normal(0, 1, (steps, 37)))
    constants, tensors = Optimiser(), adapter()
    scales = [tensor_scale(constants, tensor) for tensor in tensors.values()]
    state = first_state(tensors, constants)
    for taken, gradient in enumerate(gradients):
        after = stepped(state, gradient, constants, total=steps)
        reach = rate_at(constants, taken, steps) * step_reach(constants, taken + 1)
        for (name, value), scale in zip(after.tensors().items(), scales, strict=True):
            moved = np.abs(value.astype(np.float64) - state.tensors()[name])
            assert (moved <= reach * scale * (1 + 1e-6) + 1e-6).all()
        state = after


@pytest.mark.parametrize("gradient", [np.zeros(36), np.full(37, np.nan), np.full(37, np.inf)])
def test_a_gradient_that_is_none_is_refused(gradient: Any) -> None:
    with pytest.raises(InputError):
        stepped(first_state(adapter(), Optimiser()), gradient, Optimiser(), total=1)


def sums_of(adding: int, honest: int, steps: int, *, patients: float = 0.0, seed: int = 0) -> list[PooledSum]:
    """Sums of shares, over patients whose gradients are large on a twentieth of the coordinates, in every step."""
    random = np.random.default_rng(seed)
    steady = np.where(random.random(NUMBERS + 1) < 0.05, patients * random.normal(0, 1, NUMBERS + 1), 0.0)
    found = []
    for _ in range(steps):
        noise = sum(
            (gaussian_integers(NUMBERS + 1, share_deviation(GRID, honest)).numpy() for _ in range(adding)),
            np.zeros(NUMBERS + 1, np.int64),
        )
        integers = noise + np.rint(steady * GRID.sensitivity).astype(np.int64)
        found.append(PooledSum(integers, GRID, 10.0))
    return found


@pytest.mark.parametrize("honest", [2, 4, 10])
def test_a_share_that_is_missing_is_noticed_and_none_is_missed_where_all_are_there(honest: int) -> None:
    steps = max(1, -(-numbers_to_notice(honest) // NUMBERS))
    for seed, patients in enumerate((0.0, 0.5, 50.0)):
        assert check_sums(sums_of(honest, honest, steps, patients=patients, seed=seed)).enough
        assert check_sums(sums_of(honest + 2, honest, steps, patients=patients, seed=seed)).enough
        assert not check_sums(sums_of(honest - 1, honest, 4 * steps, patients=patients, seed=seed)).enough


def test_a_sum_without_noise_and_one_of_a_hundredth_are_noticed() -> None:
    quiet = sums_of(1, 256, 1)
    assert not check_sums(quiet).enough
    assert check_sums(quiet).noise < 0.4
    assert not check_sums(sums_of(0, 4, 1, patients=1.0)).enough


def test_false_alarms_are_as_rare_as_stated_and_the_power_is_the_stated_one() -> None:
    """Exact laws of the count, by simulation of the count itself."""
    random, numbers = np.random.default_rng(0), 20_000
    chance = 0.8663855974622838  # P(|N(0, 1)| <= 1.5)
    assert all(plausible(int(small), numbers) for small in random.binomial(numbers, chance, 2000))
    part = smallest_noticed(numbers)
    thin = 2 * ndtr(1.5 / part) - 1
    caught = np.mean([not plausible(int(small), numbers) for small in random.binomial(numbers, thin, 2000)])
    assert 0.93 < caught < 0.97
    assert FALSE_ALARM <= 1e-6


def test_what_patients_add_makes_no_alarm_whatever_it_is() -> None:
    """Anderson's inequality: anything on top of the noise makes small numbers rarer."""
    noise = sums_of(4, 4, 1)
    for shift in (0.3, 1.0, 3.0):
        moved = [replace(one, integers=one.integers + int(shift * GRID.deviation)) for one in noise]
        assert check_sums(moved).enough
        assert check_sums(moved).noise > check_sums(noise).noise
    with pytest.raises(InputError):
        check_sums([])
