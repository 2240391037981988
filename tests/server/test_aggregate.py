"""Checking and averaging updates."""

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.update_bound import round_reach
from sonoshare_server.federation.aggregate import NORM_FACTOR, aggregate, check_update, norm, read_tensors
from sonoshare_shared.errors import IntegrityError

ADAPTER = {"a": np.zeros((2, 2), np.float32), "b": np.ones(3, np.float32)}
OPTIMISER, STEPS = Optimiser(), 4
REACH = round_reach(OPTIMISER, STEPS)
SCALES = {"a": OPTIMISER.smallest_rms, "b": 1.0}


def update(value: float) -> dict[Any, Any]:
    return {name: np.full_like(tensor, value) for name, tensor in ADAPTER.items()}


def test_the_mean_is_weighted_by_public_weights_renormalised_over_those_that_replied() -> None:
    result = aggregate(ADAPTER, {"x": update(1.0), "y": update(2.0)}, {"x": 0.25, "y": 0.5})
    moved = load(result.adapter)
    np.testing.assert_allclose(moved["a"], (0.25 * 1 + 0.5 * 2) / 0.75, rtol=1e-6)
    np.testing.assert_allclose(moved["b"], 1 + (0.25 * 1 + 0.5 * 2) / 0.75, rtol=1e-6)


@pytest.mark.parametrize("hospitals", [2, 3, 5])
@pytest.mark.parametrize("factor", [-1e3, 1e9, 1e30])
def test_cases_32_and_33_an_update_that_no_training_could_make_is_refused_whole(hospitals: int, factor: float) -> None:
    honest = [save(update(0.5 * REACH * SCALES["a"])) for _ in range(hospitals - 1)]
    evil = {"a": update(0.0)["a"], "b": np.float32(factor) * update(0.01)["b"]}
    taken = {f"h{i}": check_update(data, ADAPTER, OPTIMISER, STEPS) for i, data in enumerate(honest)}
    with pytest.raises(IntegrityError, match="tensor b moves further than 4 steps"):
        check_update(save(evil), ADAPTER, OPTIMISER, STEPS)
    # The round goes on with the others alone.
    alone = load(aggregate(ADAPTER, taken, dict.fromkeys(taken, 1 / hospitals)).adapter)
    np.testing.assert_allclose(alone["a"], 0.5 * REACH * SCALES["a"], rtol=1e-5)


@pytest.mark.parametrize("hospitals", [2, 3, 5])
def test_case_33_one_hospital_moves_no_number_further_than_its_weight_of_the_reach(hospitals: int) -> None:
    """The worst update that is let in, in every number at once, against every number of honest hospitals."""
    worst = {name: np.full_like(tensor, -REACH * SCALES[name]) for name, tensor in ADAPTER.items()}
    check_update(save(worst), ADAPTER, OPTIMISER, STEPS)
    honest = {f"h{i}": update(0.0) for i in range(hospitals - 1)}
    moved = load(aggregate(ADAPTER, {**honest, "bad": worst}, dict.fromkeys([*honest, "bad"], 1 / hospitals)).adapter)
    for name, tensor in ADAPTER.items():
        assert np.abs(moved[name] - tensor).max() <= REACH * SCALES[name] / hospitals * (1 + 1e-5)


@pytest.mark.parametrize("beyond", [1.0, 1.01])
def test_the_bound_is_that_of_each_tensor(beyond: float) -> None:
    edge = {name: np.zeros_like(tensor) for name, tensor in ADAPTER.items()}
    edge["b"][1] = beyond * REACH * SCALES["b"]
    if beyond == 1.0:
        check_update(save(edge), ADAPTER, OPTIMISER, STEPS)
        return
    with pytest.raises(IntegrityError, match="tensor b"):
        check_update(save(edge), ADAPTER, OPTIMISER, STEPS)


def test_case_33_from_three_hospitals_on_a_long_update_is_scaled_to_the_others() -> None:
    honest = {f"h{i}": update(0.01) for i in range(4)}
    weights = dict.fromkeys([*honest, "bad"], 0.2)
    clean = load(aggregate(ADAPTER, honest, weights).adapter)
    attacked = load(aggregate(ADAPTER, {**honest, "bad": update(-1.0)}, weights).adapter)
    moved = {name: attacked[name] - clean[name] for name in clean}
    # The poisoner's pull, plus what renormalising takes from the others.
    assert norm(moved) <= 0.2 * (NORM_FACTOR + 1) * norm(update(0.01)) * (1 + 1e-5)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"PK\x03\x04 a pickle in a zip",
        b"\x80\x04\x95 a pickle",
        save({"a": ADAPTER["a"]}),
        save({**ADAPTER, "c": np.zeros(1, np.float32)}),
        save({**ADAPTER, "a": np.zeros((4,), np.float32)}),
        save({**ADAPTER, "a": np.zeros((2, 2), np.float64)}),
        save({**ADAPTER, "a": np.full((2, 2), np.nan, np.float32)}),
        save({**ADAPTER, "b": np.full(3, np.inf, np.float32)}),
        save(ADAPTER)[:-4],
        (1 << 60).to_bytes(8, "little") + b"{}",
    ],
)
def test_cases_22_and_32_an_update_that_does_not_fit_is_refused(broken: Any) -> None:
    with pytest.raises(IntegrityError):
        check_update(broken, ADAPTER, OPTIMISER, STEPS)


def test_an_adapter_survives_a_round_trip_exactly() -> None:
    assert all(np.array_equal(read_tensors(save(ADAPTER))[name], ADAPTER[name]) for name in ADAPTER)
