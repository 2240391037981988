"""AUC and true-positive rate of an attack, from the noisy histograms of trained and held-out patients.

Scores grow with suspicion, so bins are ascending and AUC > 1/2 means that trained patients look trained. The
figure is the AUC of the *binned* attack (ties count one half): what a hospital may show, and a lower estimate of
what the same scores would give unbinned.

Promises:
- ``private_auc``: interval with one-sided error about ``alpha`` at each end. It inverts a score test: a value A is
  kept unless the estimate lies further from it than 1.05 z s(A), where s(A)^2 adds the exact variance of the noise to
  the sampling variance of Hanley and McNeil (Radiology 1982) *at A* (continuous scores: more than binned ones
  have), for totals lowered by one standard error of their noise. This is a normal approximation: the tests
  measure its coverage by simulation, it is not exact.
- ``private_rate``: exact and conservative. The number of patients is bounded from the noisy total and the count
  from the noisy bin, each at its share of alpha (exact laws), and the binomial proportion by Clopper and Pearson.
- Ends outside [0, 1] are clamped and the interval says so.

Does not promise: the true numbers of patients (they are private; all of this is post-processing of noisy counts).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray

from sonoshare_privacy.mechanisms import geometric
from sonoshare_privacy.mechanisms.histograms import NoisyHistogram, SplitHistogram
from sonoshare_shared.science.evaluation.auc import auc_of_counts

_Numbers = float | NDArray[np.float64]

_BISECTIONS: Final = 40
_TAIL_ALLOWANCE: Final = 1.05
"""The noise has heavier tails than a normal law: every width is made larger by this."""

_MIN_TOTAL: Final = 4.0
"""Below this (noise-lowered) number of patients in a group nothing can be said of an AUC."""


@dataclass(frozen=True)
class Interval:
    """Estimate with one-sided confidence bounds.

    Args:
        estimate: point estimate, clamped to 0..1.
        lower: lower bound.
        upper: upper bound.
        clamped: the raw estimate lay outside [0, 1] (noise) and was clamped.
    """

    estimate: float
    lower: float
    upper: float
    clamped: bool = False


def private_auc(split: SplitHistogram, alpha: float) -> Interval:
    """AUC of trained against held-out patients, with an interval that includes the noise.

    Args:
        split: noisy histograms; later bins are more suspicious.
        alpha: error of each bound.

    Returns:
        The interval; [0, 1] around 1/2 where a group is too small beside its noise.
    """
    x, y = _counts(split.trained), _counts(split.held_out)
    spread = math.sqrt(len(x) * geometric.variance(split.epsilon))
    n1, n0 = float(x.sum()) - spread, float(y.sum()) - spread
    if min(n1, n0) < _MIN_TOTAL:
        return Interval(0.5, 0.0, 1.0)
    raw = auc_of_counts(x, y)
    noise = float(_noise_variance(x, y, split.epsilon))
    z = _TAIL_ALLOWANCE * float(scipy.stats.norm.isf(alpha))

    def kept(value: float) -> bool:
        return abs(raw - value) <= z * math.sqrt(float(_sampling_variance(value, n1, n0)) + noise)

    estimate = min(1.0, max(0.0, raw))
    return Interval(estimate, _end(kept, estimate, 0.0), _end(kept, estimate, 1.0), clamped=estimate != raw)


def smallest_detectable_auc(trained: int, held_out: int, bins: int, epsilon: float, alpha: float) -> float:
    """AUC that would be told from 1/2 with probability 0.8 by evenly filled bins; 1.0 where none would.

    Args:
        trained: nominal number of trained patients.
        held_out: nominal number of held-out patients.
        bins: number of bins.
        epsilon: parameter of the noise.
        alpha: error of the bound.
    """
    noise = _noise_variance(np.full(bins, trained / bins), np.full(bins, held_out / bins), epsilon)
    z_alpha, z_power = _TAIL_ALLOWANCE * float(scipy.stats.norm.isf(alpha)), float(scipy.stats.norm.isf(0.2))

    def seen(value: float) -> bool:
        null = math.sqrt(_sampling_variance(0.5, trained, held_out) + noise)
        there = math.sqrt(_sampling_variance(value, trained, held_out) + noise)
        return value - 0.5 >= z_alpha * null + z_power * there

    if not seen(1.0):
        return 1.0
    return _end(lambda value: not seen(value), 0.5, 1.0)


def private_rate(histogram: NoisyHistogram, alpha: float) -> Interval:
    """Share of patients in the last bin (e.g. the true-positive rate at a public threshold).

    Args:
        histogram: noisy histogram of one group.
        alpha: error of each bound, split evenly over noise of the total, noise of the bin, and sampling.
    """
    share = alpha / 3
    count, total = histogram.counts[-1], histogram.total
    one = noise_quantile(1, histogram.epsilon, share)
    all_bins = noise_quantile(len(histogram.counts), histogram.epsilon, share)
    raw = count / max(1, total)
    estimate = min(1.0, max(0.0, raw))
    most, fewest = max(1, total + all_bins), max(1, total - all_bins)
    high, low = max(0, count + one), max(0, count - one)
    upper = 1.0 if high >= fewest else float(scipy.stats.beta.isf(share, high + 1, fewest - high))
    lower = 0.0 if low == 0 else float(scipy.stats.beta.ppf(share, min(low, most), most - min(low, most) + 1))
    return Interval(estimate, min(lower, estimate), max(upper, estimate), clamped=estimate != raw)


def resolution(split: SplitHistogram) -> float:
    """Chance that two patients of the pooled groups fall in different bins, 0..1 - 1/bins, from noisy counts.

    An attack whose bins hold everybody in one place sees nothing: an AUC of 1/2 from it means nothing.
    """
    return float(resolutions(_counts(split.trained)[None], _counts(split.held_out)[None])[0])


@cache
def noise_quantile(draws: int, epsilon: float, alpha: float) -> int:
    """Smallest b with P(sum of ``draws`` noises > b) <= alpha."""
    mass, width = geometric.mass(epsilon)
    law = mass
    for _ in range(draws - 1):
        law = np.convolve(law, mass)
    tail = np.cumsum(law[::-1])[::-1]  # tail[i] = P(sum >= i - draws * width)
    return int(np.argmax(tail <= alpha)) - draws * width - 1


def refuted_at(
    value: float, trained: NDArray[np.float64], held_out: NDArray[np.float64], epsilon: float, alpha: float
) -> NDArray[np.bool_]:
    """Whether the upper end of `private_auc` is below a value, for many pairs of noisy histograms at once.

    Args:
        value: a tolerated AUC, in (.5, 1).
        trained: noisy counts, [n, bins].
        held_out: noisy counts, [n, bins].
        epsilon: parameter of their noise.
        alpha: error of the bound.
    """
    spread = math.sqrt(trained.shape[-1] * geometric.variance(epsilon))
    n1, n0 = trained.sum(axis=-1) - spread, held_out.sum(axis=-1) - spread
    judged = np.minimum(n1, n0) >= _MIN_TOTAL
    x, y, n1, n0 = trained[judged], held_out[judged], n1[judged], n0[judged]
    raw = _aucs(x, y)
    wide = _sampling_variance(value, n1, n0) + _noise_variance(x, y, epsilon)
    refuted = np.zeros(len(trained), dtype=np.bool_)
    refuted[judged] = (raw < value) & (
        value - raw > _TAIL_ALLOWANCE * float(scipy.stats.norm.isf(alpha)) * np.sqrt(wide)
    )
    return refuted


def resolutions(trained: NDArray[np.float64], held_out: NDArray[np.float64]) -> NDArray[np.float64]:
    """`resolution` of many pairs of noisy histograms [n, bins] at once."""
    pooled = np.maximum(trained + held_out, 0.0)
    total = np.maximum(pooled.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
    return np.asarray(np.where(total[:, 0] < 1e-9, 0.0, 1.0 - ((pooled / total) ** 2).sum(axis=-1)))


def _counts(histogram: NoisyHistogram) -> NDArray[np.float64]:
    return np.asarray(histogram.counts, dtype=np.float64)


def _aucs(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> NDArray[np.float64]:
    """`auc_of_counts` along the last axis."""
    below = np.cumsum(negative, axis=-1) - negative / 2
    return np.asarray((positive * below).sum(axis=-1) / (positive.sum(axis=-1) * negative.sum(axis=-1)))


def _sampling_variance(auc: float, n1: _Numbers, n0: _Numbers) -> NDArray[np.float64]:
    """Variance of an empirical AUC by Hanley and McNeil (1982), symmetrised to the larger of both tails."""

    def formula(a: float, m: _Numbers, n: _Numbers) -> _Numbers:
        q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
        return (a * (1 - a) + (m - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (m * n)

    largest = np.maximum(np.maximum(formula(auc, n1, n0), formula(1 - auc, n0, n1)), formula(auc, n0, n1))
    return np.asarray(np.maximum(largest, 0.0))


def _noise_variance(x: NDArray[np.float64], y: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    """Variance that the noise adds to the AUC, to first order, at clipped counts; along the last axis."""
    x, y = np.maximum(x, 0.0), np.maximum(y, 0.0)
    of_each, bins = x.sum(axis=-1, keepdims=True), x.shape[-1]
    of_other = y.sum(axis=-1, keepdims=True)
    p, q = x / of_each, y / of_other
    auc = _aucs(x, y)[..., None]
    of_x = (np.cumsum(q, axis=-1) - q / 2 - auc) / of_each
    of_y = (1 - np.cumsum(p, axis=-1) + p / 2 - auc) / of_other
    v = geometric.variance(epsilon)
    second = bins * v / (12 * of_each[..., 0] ** 2 * of_other[..., 0] ** 2)
    return np.asarray(v * ((of_x**2).sum(axis=-1) + (of_y**2).sum(axis=-1)) + v * second)


def _end(kept: Callable[[float], bool], inside: float, outside: float) -> float:
    """End of the kept interval between a value inside and the edge of the range (bisection)."""
    if kept(outside):
        return outside
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        if kept(middle):
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2
