"""Checking and averaging updates."""

import numpy as np
import pytest
from safetensors.numpy import load, save

from sonoshare_server.federation.aggregate import NORM_FACTOR, aggregate, check_update, norm, read_tensors
from sonoshare_shared.errors import IntegrityError

ADAPTER = {"a": np.zeros((2, 2), np.float32), "b": np.ones(3, np.float32)}


def update(value):
    return {name: np.full_like(tensor, value) for name, tensor in ADAPTER.items()}


def test_the_mean_is_weighted_by_public_weights_renormalised_over_those_that_replied():
    result = aggregate(ADAPTER, {"x": update(1.0), "y": update(2.0)}, {"x": 0.25, "y": 0.5})
    moved = load(result.adapter)
    np.testing.assert_allclose(moved["a"], (0.25 * 1 + 0.5 * 2) / 0.75, rtol=1e-6)
    np.testing.assert_allclose(moved["b"], 1 + (0.25 * 1 + 0.5 * 2) / 0.75, rtol=1e-6)


def test_case_33_one_poisoner_of_five_is_held_to_the_stated_factor():
    honest = {f"h{i}": update(0.1) for i in range(4)}
    weights = dict.fromkeys([*honest, "bad"], 0.2)
    clean = load(aggregate(ADAPTER, honest, weights).adapter)
    attacked = load(aggregate(ADAPTER, {**honest, "bad": update(-1e6)}, weights).adapter)
    moved = {name: attacked[name] - clean[name] for name in clean}
    # The poisoner's pull, plus what renormalising takes from the others.
    assert norm(moved) <= 0.2 * (NORM_FACTOR + 1) * norm(update(0.1)) * (1 + 1e-5)


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
def test_cases_22_and_32_an_update_that_does_not_fit_is_refused(broken):
    with pytest.raises(IntegrityError):
        check_update(broken, ADAPTER)


def test_an_adapter_survives_a_round_trip_exactly():
    assert all(np.array_equal(read_tensors(save(ADAPTER))[name], ADAPTER[name]) for name in ADAPTER)
