"""AUC and rates from noisy histograms: coverage of the intervals, noise included."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from sonoshare_privacy.audits.rates import (
    noise_quantile,
    private_auc,
    private_rate,
    resolution,
    smallest_detectable_auc,
)
from sonoshare_privacy.mechanisms.histograms import NoisyHistogram, PublicBins, SplitHistogram
from sonoshare_shared.science.evaluation.auc import auc_of_counts

BINS = PublicBins((-1.0, 0.0, 1.0))


def split(trained: Any, held_out: Any, epsilon: float) -> SplitHistogram:
    return SplitHistogram(BINS, NoisyHistogram(tuple(trained), epsilon), NoisyHistogram(tuple(held_out), epsilon))


def noise(rng: np.random.Generator, epsilon: float, shape: tuple[int, int] | int) -> NDArray[Any]:
    a = math.exp(-epsilon)
    return rng.geometric(1 - a, shape) - rng.geometric(1 - a, shape)


def binormal(shift: float, spread: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bin probabilities of trained (shifted, scaled) and held-out patients (even quartiles)."""
    edges = norm.ppf((0.25, 0.5, 0.75))
    cumulative = np.concatenate([[0], norm.cdf((edges - shift) / spread), [1]])
    return np.diff(cumulative), np.full(4, 0.25)


@pytest.mark.parametrize(
    ("n1", "n0", "epsilon"), [(35, 15, 0.5), (105, 45, 0.25), (105, 45, 1.0), (100, 100, 0.25), (350, 150, 0.5)]
)
@pytest.mark.parametrize(("shift", "spread"), [(0.0, 1.0), (0.5, 1.0), (0.5, 1.5), (2.0, 1.0)])
def test_auc_interval_covers(n1: int, n0: int, epsilon: float, shift: float, spread: float) -> None:
    """Each bound errs at most about alpha; 600 draws, so up to 3 standard errors above .05 are allowed."""
    rng = np.random.default_rng(round(1000 * (shift + spread + epsilon)) + n1)
    p, q = binormal(shift, spread)
    truth, draws = auc_of_counts(p, q), 600
    x = rng.multinomial(n1, p, draws) + noise(rng, epsilon, (draws, 4))
    y = rng.multinomial(n0, q, draws) + noise(rng, epsilon, (draws, 4))
    intervals = [private_auc(split(a, b, epsilon), 0.05) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)
    assert np.mean([i.lower > truth for i in intervals]) <= allowed
    assert np.mean([i.upper < truth for i in intervals]) <= allowed
    assert all(0 <= i.lower <= i.estimate <= i.upper <= 1 for i in intervals)


def test_noise_outside_the_unit_interval_is_clamped_and_said() -> None:
    interval = private_auc(split((-20, -5, 0, 120), (60, 5, -3, -2), 0.25), 0.05)
    assert interval.clamped
    assert interval.estimate == 1.0
    assert interval.upper == 1.0


def test_too_few_patients_say_nothing() -> None:
    for counts in ((3, 1, 0, 2), (0, 0, 0, 0), (-4, 2, -1, 0)):
        interval = private_auc(split(counts, (10, 12, 9, 11), 0.5), 0.05)
        assert (interval.lower, interval.upper) == (0.0, 1.0)


def test_auc_of_exact_counts() -> None:
    assert auc_of_counts(np.array([0.0, 0.0, 10.0]), np.array([5.0, 5.0, 0.0])) == 1.0
    assert auc_of_counts(np.array([4.0, 4.0]), np.array([4.0, 4.0])) == 0.5


@pytest.mark.parametrize("epsilon", [0.5, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
def test_rate_interval_is_conservative(epsilon: float, share: float) -> None:
    rng = np.random.default_rng(11)
    n, draws, missed = 120, 400, 0
    for _ in range(draws):
        top = rng.binomial(n, share)
        counts = np.array([n - top, 0, 0, top]) + noise(rng, epsilon, 4)
        interval = private_rate(NoisyHistogram(tuple(counts.tolist()), epsilon), 0.05)
        missed += not interval.lower <= share <= interval.upper
    assert missed / draws <= 0.1


def test_noise_quantile_is_exact_for_one_draw() -> None:
    for epsilon, alpha in ((0.5, 0.05), (1.0, 0.01)):
        a, b = math.exp(-epsilon), noise_quantile(1, epsilon, alpha)
        tails = [a ** (k + 1) / (1 + a) for k in (b - 1, b)]  # P(noise > k)
        assert tails[1] <= alpha < tails[0]


def test_detectable_auc_falls_with_patients_and_budget() -> None:
    values = [smallest_detectable_auc(n, n // 2, 4, 0.5, 0.05) for n in (40, 100, 400, 2000)]
    assert values == sorted(values, reverse=True)
    assert smallest_detectable_auc(105, 45, 4, 1.0, 0.05) < smallest_detectable_auc(105, 45, 4, 0.25, 0.05)
    assert smallest_detectable_auc(5, 3, 4, 0.25, 0.05) == 1.0


def test_resolution_of_one_crowded_bin_is_none() -> None:
    assert resolution(split((100, 0, 0, 0), (50, 0, 0, 0), 1.0)) == pytest.approx(0.0)
    assert resolution(split((25, 25, 25, 25), (10, 10, 10, 10), 1.0)) == pytest.approx(0.75)
    assert resolution(split((-5, 0, 0, 0), (0, -1, 0, 0), 1.0)) == 0.0
