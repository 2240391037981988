"""The noise of the private figures is the law it is said to be."""

import math
import random
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from sonoshare_privacy.mechanisms import geometric
from sonoshare_shared.errors import InputError


def seeded(seed: int) -> Callable[..., int]:
    """A source of uniform integers for tests (the real one is the system's)."""
    return random.Random(seed).randrange  # noqa: S311


@pytest.mark.parametrize("epsilon", [0.25, 0.5, 1.0, 2.0, 0.1])
def test_draws_follow_the_law(epsilon: float) -> None:
    below = seeded(7)
    draws = np.array([geometric.draw(epsilon, below) for _ in range(6000)])
    mass, width = geometric.mass(epsilon)
    edge = math.ceil(3 / epsilon)
    inner = mass[width - edge : width + edge + 1] * len(draws)
    expected = np.concatenate(
        [[mass[: width - edge].sum() * len(draws)], inner, [mass[width + edge + 1 :].sum() * len(draws)]]
    )
    observed = np.bincount(np.clip(draws, -edge - 1, edge + 1) + edge + 1, minlength=2 * edge + 3)
    assert chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_epsilon_is_the_rational_that_the_float_is() -> None:
    """Every number asked of the source of randomness is an integer built from the exact rational; no float is used."""
    asked = []
    draw = seeded(1)

    def below(n: Any) -> int:
        asked.append(n)
        assert isinstance(n, int)
        return draw(n)

    geometric.draw(0.1, below)
    assert asked[0] == Fraction(0.1).denominator


def test_bernoulli_exp_is_exact_to_the_depth_that_can_be_enumerated() -> None:
    """P(true) of exp(-1/2), enumerated over all outcomes of the first comparisons, brackets the exact value."""
    low, high = Fraction(0), Fraction(0)
    for pattern in product((True, False), repeat=6):
        weight, k, decided = Fraction(1), 1, None
        for success in pattern:
            chance = Fraction(1, 2 * k)
            weight *= chance if success else 1 - chance
            if not success:
                decided = k % 2 == 1
                break
            k += 1
        seen = pattern[: pattern.index(False) + 1] if False in pattern else pattern
        if pattern != seen + (False,) * (6 - len(seen)):
            continue  # one representative of each decided prefix
        low += weight if decided else 0
        high += weight if decided or decided is None else 0
    assert float(low) <= math.exp(-0.5) <= float(high)
    assert float(high - low) < 1e-4


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_impossible_epsilons_are_refused(epsilon: float) -> None:
    with pytest.raises(InputError):
        geometric.draw(epsilon)


@pytest.mark.parametrize("epsilon", [0.05, 0.25, 1.0, 3.0])
def test_mass_is_a_law_with_the_stated_variance(epsilon: float) -> None:
    mass, width = geometric.mass(epsilon)
    support = np.arange(-width, width + 1)
    assert mass.sum() == pytest.approx(1.0, abs=1e-12)
    assert (mass * support**2).sum() == pytest.approx(geometric.variance(epsilon), rel=1e-9)
    assert np.abs(np.diff(np.log(mass))).max() == pytest.approx(epsilon, rel=1e-9)  # the privacy of a count
