"""The copy test's exact laws, bounds and operating characteristics."""

import math
import random
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoshare_privacy.audits.copytest import CopyTest, count_law
from sonoshare_privacy.mechanisms import geometric
from sonoshare_shared.errors import InputError


def seeded(seed: int) -> Callable[..., int]:
    """A source of uniform integers for tests (the real one is the system's)."""
    return random.Random(seed).randrange  # noqa: S311


GRID = [(n, epsilon, share) for n in (50, 150, 500) for epsilon in (0.25, 0.5, 1.0) for share in (0.05, 0.1, 0.2)]


def test_law_equals_enumeration() -> None:
    n, k, p, recall, epsilon = 4, 2, 0.2, 0.7, 0.9
    law = count_law(n, k, p, recall, epsilon)
    mass, width = geometric.mass(epsilon)
    for y in range(-3, 8):
        total = 0.0
        for flags in product((0, 1), repeat=n):
            chances = [recall if i < k else p for i in range(n)]
            weight = math.prod(c if f else 1 - c for c, f in zip(chances, flags, strict=True))
            total += weight * mass[y - sum(flags) + width]
        assert law.mass[y - law.lowest] == pytest.approx(total, abs=1e-14)
    assert law.mass.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("epsilon", "smallest"), [(0.25, 19), (0.5, 10), (1.0, 6)])
def test_smallest_detectable_leak_hardly_depends_on_the_cohort(epsilon: float, smallest: int) -> None:
    for n in (50, 150, 500):
        found = CopyTest(n, 0.003, 0.75, epsilon, 0.05).smallest_detectable()
        assert abs(found - smallest) <= 2


def test_no_audit_can_beat_the_privacy_floor() -> None:
    """Power for k copied patients is at most e^(k epsilon) alpha; in particular one patient is never detectable."""
    for epsilon in (0.25, 0.5, 1.0):
        test = CopyTest(150, 0.003, 1.0, epsilon, 0.05)
        for copied in (1, 2, 3):
            assert test.power(copied) <= math.exp(copied * epsilon) * 0.05 + 1e-12
        assert test.smallest_detectable() >= 2.77 / epsilon


@pytest.mark.parametrize(("n", "epsilon", "share"), GRID)
def test_a_tolerated_leak_passes_at_most_alpha_whatever_cohort_and_false_rate(
    n: int, epsilon: float, share: float
) -> None:
    """Exact, over true cohorts and false rates other than the declared ones."""
    tolerated = math.ceil(share * n)
    test = CopyTest(n, 0.5 / n, 0.75, epsilon, 0.05)
    largest = max((y for y in range(-60, test.critical) if test.passes(y, tolerated)), default=None)
    if largest is None:
        return
    for true_n, true_p in product((tolerated, n, 3 * n), (0.0, 0.5 / n, 5 / n)):
        for copied in (tolerated, min(true_n, 2 * tolerated)):
            assert count_law(true_n, copied, true_p, 0.75, epsilon).at_most(largest) <= 0.05


@pytest.mark.parametrize(("n", "epsilon", "share"), GRID)
def test_operating_points_equal_simulation(n: int, epsilon: float, share: float) -> None:
    """Simulated gate: P(PASS | tolerated) <= .05, P(FAIL | none) <= .05, within 2 points of the exact table."""
    rng = np.random.default_rng(int(1000 * epsilon) + n)
    tolerated = math.ceil(share * n)
    test = CopyTest(n, 0.5 / n, 0.75, epsilon, 0.05)
    draws, a = 20_000, math.exp(-epsilon)
    for copied in (0, tolerated):
        noise = rng.geometric(1 - a, draws) - rng.geometric(1 - a, draws)
        counts = rng.binomial(n - copied, 0.5 / n, draws) + rng.binomial(copied, 0.75, draws) + noise
        point = test.operating_point(copied, tolerated)
        values, times = np.unique(counts, return_counts=True)
        passed = sum(t for v, t in zip(values, times, strict=True) if test.passes(int(v), tolerated)) / draws
        failed = times[values >= test.critical].sum() / draws
        assert passed == pytest.approx(point.passes, abs=0.02)
        assert failed == pytest.approx(point.fails, abs=0.02)
        assert point.passes + point.fails + point.inconclusive == pytest.approx(1.0)
        if copied:
            assert point.passes <= 0.05
        else:
            assert point.fails <= 0.05


@pytest.mark.parametrize(
    ("n", "epsilon", "shares", "powers"),
    [
        (50, 1.0, (0.05, 0.1, 0.2), (0.20, 0.53, 0.97)),
        (150, 0.5, (0.05, 0.1, 0.2), (0.51, 0.96, 0.96)),
        (150, 1.0, (0.05, 0.1, 0.2), (0.92, 0.97, 0.97)),
        (500, 0.25, (0.05, 0.1, 0.2), (0.93, 0.93, 0.93)),
    ],
)
def test_chance_to_pass_without_a_leak(
    n: int, epsilon: float, shares: tuple[float, float, float], powers: tuple[float, float, float]
) -> None:
    """The table of the design, though PASS here holds for every cohort and false rate."""
    test = CopyTest(n, 0.5 / n, 0.75, epsilon, 0.05)
    for share, power in zip(shares, powers, strict=True):
        assert test.operating_point(0, math.ceil(share * n)).passes >= power - 0.02


@pytest.mark.parametrize("rate", [0.0, 1.2e-308, 5e-324, 1e-290])
def test_a_false_rate_too_small_to_matter_is_none(rate: float) -> None:
    assert np.allclose(count_law(120, 0, rate, 1.0, 1.0).mass, count_law(120, 0, 0.0, 1.0, 1.0).mass, atol=1e-15)
    assert CopyTest(120, rate, 0.9, 1.0, 0.05).critical == CopyTest(120, 0.0, 0.9, 1.0, 0.05).critical


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 120),
    share=st.floats(0, 1),
    p=st.floats(0, 0.05),
    recall=st.floats(0.3, 1),
    epsilon=st.floats(0.2, 3),
    true_recall_up=st.booleans(),
)
def test_bounds_cover(*, n: Any, share: Any, p: Any, recall: Any, epsilon: Any, true_recall_up: Any) -> None:
    """Each bound errs with probability at most alpha, under the declared rates and under better ones."""
    copied = round(share * n)
    test = CopyTest(n, p, recall, epsilon, 0.05)
    law = count_law(n, copied, p, 1.0 if true_recall_up else recall, epsilon)
    counts = law.lowest + np.arange(len(law.mass))
    shown = law.mass > 1e-9
    under = sum(m for y, m in zip(counts[shown], law.mass[shown], strict=True) if test.upper_bound(int(y)) < copied)
    over = sum(m for y, m in zip(counts[shown], law.mass[shown], strict=True) if test.lower_bound(int(y)) > copied)
    assert under <= 0.05 + 1e-6
    assert over <= 0.05 + 1e-6


def test_larger_counts_never_make_smaller_bounds() -> None:
    test = CopyTest(80, 0.005, 0.8, 0.6, 0.05)
    upper = [test.upper_bound(y) for y in range(-20, 110)]
    lower = [test.lower_bound(y) for y in range(-20, 110)]
    assert upper == sorted(upper)
    assert lower == sorted(lower)
    assert all(low <= high for low, high in zip(lower, upper, strict=True))


def test_reaching_the_critical_count_and_a_positive_lower_bound_are_the_same() -> None:
    for n, epsilon in ((50, 1.0), (150, 0.5), (500, 0.25)):
        test = CopyTest(n, 0.003, 0.75, epsilon, 0.05)
        for y in range(-10, 30):
            assert (y >= test.critical) == (test.lower_bound(y) >= 1)


@pytest.mark.parametrize(
    "values",
    [(0, 0.01, 0.8, 1.0, 0.05), (10, 1.0, 0.8, 1.0, 0.05), (10, 0.0, 0.0, 1.0, 0.05), (10, 0.0, 0.8, 0.0, 0.05)],
)
def test_constants_out_of_range_are_refused(values: tuple[int, float, float, float, float]) -> None:
    with pytest.raises(InputError):
        CopyTest(*values)


def test_noise_drawn_by_the_mechanism_meets_the_level() -> None:
    """End to end with the exact sampler: false alarms of an honest model stay at alpha."""
    test = CopyTest(150, 0.0, 0.75, 1.0, 0.05)
    below = seeded(5)
    alarms = np.mean([geometric.draw(1.0, below) >= test.critical for _ in range(4000)])
    assert alarms <= 0.05
