"""CASES 43 and 45: the sampler's coins and the noise's size, shape and freshness."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from sonoshare_privacy.mechanisms import keystream, sampling
from sonoshare_privacy.mechanisms.draw_words import fresh_keys
from sonoshare_privacy.mechanisms.gaussian import Grid, gaussian_integers
from sonoshare_privacy.mechanisms.sampling import poisson_sample
from sonoshare_shared.errors import InputError

# Randomness is what is tested: false alarms below 1e-6 per assertion.
Z = 5.0


def test_case_45_deviation_and_shape() -> None:
    count, deviation = 1_000_000, 2.0**45
    values = gaussian_integers(count, deviation)
    assert values.dtype == torch.int64
    unit = values.numpy() / deviation
    assert abs(unit.mean()) < Z / np.sqrt(count)
    assert abs(unit.std() - 1) < Z / np.sqrt(2 * count)
    assert stats.kstest(unit, "norm").pvalue > 1e-6
    for threshold in (3.0, 4.0):
        expected = 2 * stats.norm.sf(threshold)
        seen = stats.binomtest(int((np.abs(unit) > threshold).sum()), count, expected)
        assert seen.pvalue > 1e-6


def test_case_45_neighbours_and_halves_are_independent() -> None:
    values = gaussian_integers(1 << 16, 2.0**40).double() / 2.0**40
    bound = Z / np.sqrt(len(values) / 2)
    for lag in (1, 2, 1 << 14, 1 << 15):
        assert abs(float((values[:-lag] * values[lag:]).mean())) < 2 * bound


def test_case_45_low_bits_are_uniform() -> None:
    low = gaussian_integers(200_000, 2.0**45).numpy() & 15
    assert stats.chisquare(np.bincount(low, minlength=16)).pvalue > 1e-6


def test_case_45_never_the_same_in_two_processes() -> None:
    code = "from sonoshare_privacy.mechanisms.gaussian import gaussian_integers as g; print(g(4, 2.0**50).tolist())"
    outputs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    outputs.add(str(gaussian_integers(4, 2.0**50).tolist()).encode())
    outputs.add(str(gaussian_integers(4, 2.0**50).tolist()).encode())
    assert len(outputs) == 4


def test_case_45_there_is_no_seed_to_give() -> None:
    for function in (gaussian_integers, poisson_sample, keystream.random_words, fresh_keys):
        assert not {"seed", "key", "rng"} & set(inspect.signature(function).parameters)
    torch.manual_seed(0)
    first = gaussian_integers(4, 2.0**50)
    torch.manual_seed(0)
    assert not torch.equal(first, gaussian_integers(4, 2.0**50))


@pytest.mark.parametrize("count", [1, 2, 3, (1 << 15) - 1, (1 << 15) + 1])
def test_any_count(count: int) -> None:
    values = gaussian_integers(count, 2.0**45)
    assert values.shape == (count,)
    assert int((values == 0).sum()) == 0


@pytest.mark.parametrize("constants", [(0.0, 1.0, 5), (1.0, 0.0, 5), (1.0, 1.0, 0), (1.0, float("inf"), 5)])
def test_no_grid_without_noise(constants: tuple[float, float, int]) -> None:
    with pytest.raises(InputError):
        Grid(*constants)
    with pytest.raises(InputError):
        gaussian_integers(3, 0.0)


@pytest.mark.parametrize(("clip", "sigma"), [(1.0, 1.0), (0.37, 0.5), (1e-4, 3.0), (100.0, 500.0)])
def test_grid_counts_its_rounding_and_keeps_integers_small(clip: float, sigma: float) -> None:
    grid = Grid(clip, sigma, 4_600_000)
    assert grid.sensitivity * grid.step >= clip + grid.step * np.sqrt(4_600_000) / 2
    assert grid.sensitivity * grid.step < clip * (1 + 1e-5)
    assert grid.deviation * 16.0 < 2.0**53
    assert np.log2(grid.step) == int(np.log2(grid.step))


def test_rounded_contributions_stay_within_the_sensitivity() -> None:
    grid = Grid(1.0, 2.0, 1000)
    vector = np.random.default_rng(0).standard_normal((200, 1000))
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    integers = np.rint(vector / grid.step)
    assert np.linalg.norm(integers, axis=1).max() <= grid.sensitivity


def test_case_43_inclusion_is_independent_bernoulli() -> None:
    draws, population, rate = 10_000, 20, 0.1
    hits = np.zeros((draws, population), dtype=bool)
    for row in hits:
        row[poisson_sample(population, rate)] = True
    sizes = hits.sum(1)
    expected = stats.binom.pmf(np.arange(population + 1), population, rate) * draws
    seen = np.bincount(sizes, minlength=population + 1)
    keep = expected > 5
    folded = np.append(expected[keep], expected[~keep].sum())
    assert stats.chisquare(np.append(seen[keep], seen[~keep].sum()), folded).pvalue > 1e-6
    assert stats.chisquare(hits.sum(0), np.full(population, hits.sum() / population)).pvalue > 1e-6
    pairs = np.corrcoef(hits.T)[np.triu_indices(population, 1)]
    assert np.abs(pairs).max() < 5.5 / np.sqrt(draws)
    assert (sizes == 0).any()


def test_case_43_edges_of_the_sampler() -> None:
    assert poisson_sample(0, 0.5).tolist() == []
    assert poisson_sample(5, 1.0).tolist() == [0, 1, 2, 3, 4]
    for rate in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(InputError):
            sampling.poisson_sample(5, rate)


def test_keys_of_draws_differ() -> None:
    first, second = fresh_keys(2)
    assert not torch.equal(first, second)
