"""The discrete Gaussian: its table, its decisions and its draws against exact arithmetic."""

from decimal import Decimal, getcontext
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sonoshare_privacy.mechanisms import discrete_gaussian
from sonoshare_privacy.mechanisms.discrete_gaussian import COLUMNS, REACH, Columns, add_discrete_gaussian, columns_for
from sonoshare_shared.errors import InputError

# Randomness is what is tested: false alarms below 1e-6 per assertion.
DEVIATIONS = [1.0, 1.7, 130.5, 2.0**44, 1.37 * 2.0**45, 2.0**56]


def drawn(count: int, deviation: float) -> NDArray[Any]:
    out = np.zeros(count, dtype=np.int64)
    add_discrete_gaussian(out, deviation)
    return out


def mass(deviation: float, reach: int) -> NDArray[Any]:
    """Exact probabilities of -reach..reach (float64 of a 50-digit computation)."""
    with mpmath.workdps(50):
        square = 2 * mpmath.mpf(deviation) ** 2
        heights = [mpmath.exp(-(mpmath.mpf(x) ** 2) / square) for x in range(-reach, reach + 1)]
        total = mpmath.fsum(heights)
        return np.array([float(height / total) for height in heights])


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_cells_hold_the_columns_weights_exactly(deviation: float) -> None:
    columns = columns_for(deviation)
    held = [0] * COLUMNS
    for cell, (threshold, alias) in enumerate(zip(columns.thresholds, columns.aliases, strict=True)):
        held[cell] += int(threshold)
        held[int(alias)] += 2**52 - int(threshold)
    assert held == list(columns.weights)
    assert sum(held) == 2**64


def acceptance(columns: Columns, x: int, column: int) -> Decimal:
    getcontext().prec = 80
    return (
        columns.scale
        * (-(Decimal(x) ** 2) / (2 * Decimal(columns.deviation) ** 2)).exp()
        / Decimal(columns.weights[column])
    )


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_a_squeeze_never_accepts_what_exact_arithmetic_might_refuse(deviation: float) -> None:
    columns = columns_for(deviation)
    width, bits = 1 << columns.shift, 64 - columns.spare
    assert COLUMNS // 2 * width >= REACH * deviation
    for column in range(0, COLUMNS, 7):
        first = (column - COLUMNS // 2) * width
        ends = [acceptance(columns, x, column) for x in (first, first + width - 1)]
        assert max(ends) <= 1
        assert Decimal(int(columns.squeezes[column])) / 2**bits <= min(ends)
        assert float(max(ends)) == pytest.approx(columns.ratios[column], rel=1e-12)
    if deviation >= 130:
        middle = slice(COLUMNS // 2 - 256, COLUMNS // 2 + 256)  # four deviations and more
        assert columns.squeezes[middle].min() / 2.0**bits > 0.9, "most draws must be accepted at once"


@pytest.mark.parametrize("deviation", [1.0, 2.5, 9.0, 70.3])
def test_small_deviations_have_the_exact_probabilities(deviation: float) -> None:
    count, reach = 400_000, int(6 * deviation) + 1
    values = drawn(count, deviation)
    expected = mass(deviation, reach) * count
    seen = np.bincount(np.clip(values, -reach, reach) + reach, minlength=2 * reach + 1)
    keep = expected > 8
    folded = np.append(expected[keep], count - expected[keep].sum())
    assert stats.chisquare(np.append(seen[keep], count - seen[keep].sum()), folded).pvalue > 1e-6
    odd = float(mass(deviation, 8 * reach)[(1 + 8 * reach) % 2 :: 2].sum())
    assert stats.binomtest(int((values & 1).sum()), count, odd).pvalue > 1e-6


def test_large_deviations_are_gaussian_in_bulk_tails_and_low_bits() -> None:
    count, deviation = 1_000_000, 1.37 * 2.0**45
    values = drawn(count, deviation)
    assert stats.kstest(values / deviation, "norm").pvalue > 1e-6
    for threshold in (2.0, 3.0, 4.0):
        for side in (1, -1):
            seen = int((side * values > threshold * deviation).sum())
            assert stats.binomtest(seen, count, stats.norm.sf(threshold)).pvalue > 1e-6
    width = 1 << columns_for(deviation).shift
    for modulus, low in ((2, values & 1), (64, values & 63), (16, (values & (width - 1)) * 16 // width)):
        assert stats.chisquare(np.bincount(low, minlength=modulus)).pvalue > 1e-6


def test_two_numbers_together_lie_on_no_lattice() -> None:
    """Noise by Box-Muller of 53-bit uniforms betrays itself: the angle of a pair is a multiple of 2 pi / 2**53."""
    values = drawn(1 << 15, 2.0**56)
    half = len(values) // 2
    with mpmath.workdps(60):
        parts = [mpmath.atan2(int(values[half + i]), int(values[i])) / (2 * mpmath.pi) * 2**53 % 1 for i in range(400)]
    assert stats.kstest([float(part) for part in parts], "uniform").pvalue > 1e-6


@pytest.mark.parametrize("deviation", [1.7, 1.37 * 2.0**45])
def test_the_quick_decision_is_the_exact_one(deviation: float, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, random = columns_for(deviation), np.random.default_rng(3)
    bits, width = 64 - columns.spare, 1 << columns.shift
    spread = 700 if deviation > 100 else 5
    chosen = random.integers(COLUMNS // 2 - spread, COLUMNS // 2 + spread, 300)
    values = (chosen - COLUMNS // 2) * width + random.integers(0, width, 300)
    near = np.array([float(acceptance(columns, int(x), int(c))) for x, c in zip(values, chosen, strict=True)])
    drawn_bits = np.minimum(near * (1 + 1e-11 * random.standard_normal(300)), 1 - 1e-15) * 2.0**bits
    open_ = discrete_gaussian._Undecided(np.arange(300), values, chosen, drawn_bits.astype(np.uint64))
    fine = random.integers(0, 2**63, 300, dtype=np.uint64) * np.uint64(2)
    monkeypatch.setattr(discrete_gaussian, "random_words", lambda count: fine[:count])
    quick = discrete_gaussian._accepted(open_, columns)
    exact = [
        columns.accepts_exactly(int(x), int(c), int(d) << 53 | int(f >> np.uint64(11)), bits + 53)
        for x, c, d, f in zip(values, chosen, open_.drawn, fine, strict=True)
    ]
    assert quick.tolist() == exact
    assert 50 < sum(exact) < 250


def test_the_exact_decision_alone_gives_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discrete_gaussian, "_MARGIN", 0.999)
    values = drawn(60_000, 100.5)
    expected = mass(100.5, 1000)
    bins = np.digitize(values, edges := np.arange(-250, 251, 10))
    probabilities = np.add.reduceat(expected, np.r_[0, edges + 1000])
    assert stats.chisquare(np.bincount(bins, minlength=len(edges) + 1), probabilities * len(values)).pvalue > 1e-6


@pytest.mark.parametrize("deviation", [0.0, 0.99, float("nan"), float("inf"), 2.0**57])
def test_no_noise_of_another_size(deviation: float) -> None:
    with pytest.raises(InputError, match="deviation"):
        drawn(1, deviation)


def test_noise_is_added_to_what_is_there() -> None:
    total = np.full(20_001, 7 << 50, dtype=np.int64)
    add_discrete_gaussian(total, 2.0**40)
    assert abs(float((total - (7 << 50)).mean())) < 6 * 2.0**40 / np.sqrt(len(total))
    assert abs(float((total - (7 << 50)).std()) / 2.0**40 - 1) < 0.04
