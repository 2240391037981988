"""The bound on a round's update holds for any gradients, and a sequence of gradients reaches it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import Parameter

from sonoshare_privacy.noisy_adam import NoisyAdam
from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.schedule import round_optimiser
from sonoshare_privacy.update_bound import round_reach, rounding_slack, step_reach, tensor_scale
from sonoshare_shared.errors import InputError

CONSTANTS = st.builds(
    Optimiser,
    learning_rate=st.floats(1e-4, 1.0),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    second_moment=st.sampled_from([0.9, 0.98, 0.999]),
    average=st.sampled_from([0.0, 0.5, 0.9, 0.999]),
    smallest_rms=st.sampled_from([1e-3, 0.02, 1.0]),
    final_fraction=st.floats(0.1, 1.0),
)
# Every size of which float32 holds the square, smaller ones, and zero.
GRADIENTS = st.one_of(
    st.just(0.0),
    st.builds(lambda sign, power: sign * 10.0**power, st.sampled_from([-1.0, 1.0]), st.floats(-44, 18)),
    st.floats(-10, 10, width=32),
)


def moved_by(constants: Optimiser, start: NDArray[np.float32], gradients: NDArray[np.float32]) -> NDArray[np.float32]:
    """The update that a round of these gradients [steps, D] makes."""
    parameter = Parameter(torch.from_numpy(start.copy()))
    adam = NoisyAdam({"w": parameter}, constants, total_steps=len(gradients))
    for gradient in torch.from_numpy(gradients):
        adam.step(gradient)
    adam.finish()
    return np.asarray(parameter.detach().numpy() - start)


def allowed(constants: Optimiser, start: NDArray[np.float32], steps: int) -> NDArray[np.float64]:
    reach = round_reach(constants, steps) * tensor_scale(constants, start)
    return reach + rounding_slack(start, reach, steps)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), constants=CONSTANTS, steps=st.integers(1, 40), size=st.floats(0, 100))
def test_no_gradients_move_a_number_further(data: st.DataObject, constants: Optimiser, steps: int, size: float) -> None:
    columns = data.draw(st.lists(st.lists(GRADIENTS, min_size=steps, max_size=steps), min_size=1, max_size=4))
    gradients = np.array(columns, np.float32).T.copy()
    start = np.linspace(-size, size, gradients.shape[1], dtype=np.float32)
    moved = np.abs(moved_by(constants, start, gradients))
    assert (moved <= allowed(constants, start, steps)).all()


@pytest.mark.parametrize("steps", [1, 2, 7, 40, 300])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_growing_sequence_reaches_the_bound(steps: int, average: float) -> None:
    constants = Optimiser(average=average)
    start = np.array([0.1, -0.1, 0.0], np.float32)
    growth = (constants.second_moment / constants.momentum) ** np.arange(steps)
    gradients = np.outer(growth, [1, -1, 1e-3]).astype(np.float32)
    moved = np.abs(moved_by(constants, start, gradients))
    reach = round_reach(constants, steps) * tensor_scale(constants, start)
    assert moved == pytest.approx(reach, rel=1e-4)


@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e-20, 1e-18, 1e-16, 1.0, 1e9, 1e18])
def test_gradients_whose_squares_float32_cannot_hold_move_no_further(size: float) -> None:
    gradients = np.full((10, 2), size, np.float32)
    gradients[1:, 1] = 0.0
    start = np.zeros(2, np.float32)
    assert (np.abs(moved_by(Optimiser(), start, gradients)) <= allowed(Optimiser(), start, 10)).all()


@settings(max_examples=40, deadline=None)
@given(momentum=st.floats(0.0, 0.94), second=st.floats(0.9, 0.999), steps=st.integers(1, 12), data=st.data())
def test_the_inequality_behind_a_step_holds(momentum: float, second: float, steps: int, data: st.DataObject) -> None:
    constants = Optimiser(momentum=momentum, second_moment=second)
    gradients = np.array(data.draw(st.lists(st.integers(-1000, 1000), min_size=steps, max_size=steps)), float)
    ages = np.arange(steps)[::-1]
    first = (1 - momentum) * (momentum**ages @ gradients) / (1 - momentum**steps)
    size = math.sqrt((1 - second) * (second**ages @ gradients**2) / (1 - second**steps))
    assert abs(first) <= step_reach(constants, steps) * size * (1 + 1e-9) + 1e-300


def test_the_rounds_of_a_study_reach_less_and_less() -> None:
    reaches = [round_reach(round_optimiser(0.02, 3, number), 10) for number in (1, 2, 3)]
    assert reaches == sorted(reaches, reverse=True)
    assert sum(reaches) < 3 * 10 * 0.02 * 1.7


@pytest.mark.parametrize("constants", [Optimiser(second_moment=0.0), Optimiser(momentum=0.99, second_moment=0.5)])
def test_decays_that_bound_nothing_are_refused(constants: Optimiser) -> None:
    with pytest.raises(InputError):
        round_reach(constants, 3)


@pytest.mark.parametrize(("steps", "share"), [(16, 0.36), (100, 0.11)])
def test_noise_alone_stays_well_below_the_bound_in_long_rounds(steps: int, share: float) -> None:
    """What three times the median of honest updates is worth beside the bound (decision 0084)."""
    start = np.zeros(20_000, np.float32)
    noise = np.random.default_rng(5).standard_normal((steps, len(start)), dtype=np.float32)
    reach = round_reach(Optimiser(), steps) * tensor_scale(Optimiser(), start)
    size = float(np.sqrt(np.square(moved_by(Optimiser(), start, noise), dtype=np.float64).mean()))
    assert size / reach == pytest.approx(share, abs=0.01)
