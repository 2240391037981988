"""The copy test: how many patients could have been copied, from one noisy count.

A patient whose score reaches the copy threshold falls in the last bin. With k copied patients among n the noisy
count is distributed exactly as

    Y(k) = Bin(n - k, p) + Bin(k, R) + G,      G two-sided geometric with parameter epsilon,

p the false rate of a patient who was not copied, R the detector's recall. Everything here is an exact
convolution of these laws (float64); nothing is simulated.

What may be public: n, p, R, epsilon and alpha are constants of the plan. n is the *nominal* number of trained
patients, never the hospital's own. Promises, for every true number of patients and false rate up to the declared
ones:

- P(Y >= critical | nobody copied) <= alpha. The law grows with n and p, so the declared values are the worst.
- P(upper bound < k | k copied) <= alpha. The upper bound assumes that *no* false flag helps (p = 0): then
  Y >= Bin(k, R) + G whatever n and p are, so it depends neither on the cohort nor on the false rate.
- P(lower bound > k | k copied) <= alpha (recall 1, declared n and p: the worst).

Does not promise anything for copies that the detector misses more often than 1 - R (see the blind spots of
copies.py), nor that a single copied patient is seen: no epsilon-private audit can (power <= e^epsilon * alpha).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray

from sonoshare_privacy.mechanisms import geometric
from sonoshare_shared.errors import InputError

POWER: Final = 0.8
"""Power at which a leak counts as detectable."""

_NEGLIGIBLE: Final = 1e-18
"""Binomial mass below this is dropped: n of 10^5 stays fast, total error below 1e-13."""


@dataclass(frozen=True)
class Law:
    """Probability mass of an integer on ``lowest .. lowest + len(mass) - 1``."""

    mass: NDArray[np.float64]
    lowest: int

    def at_most(self, y: int) -> float:
        """P(Y <= y)."""
        return float(self.mass[: max(0, y - self.lowest + 1)].sum())

    def at_least(self, y: int) -> float:
        """P(Y >= y)."""
        return float(self.mass[max(0, y - self.lowest) :].sum())


@cache
def count_law(patients: int, copied: int, false_rate: float, recall: float, epsilon: float) -> Law:
    """Return the exact law of the noisy copy count.

    Args:
        patients: n, all patients of the group.
        copied: k of them, 0..n.
        false_rate: p, chance that a patient who was not copied is flagged.
        recall: R, chance that a copied patient is flagged.
        epsilon: parameter of the noise.
    """
    noise, width = geometric.mass(epsilon)
    law = Law(noise, -width)
    for trials, chance in ((patients - copied, false_rate), (copied, recall)):
        part = _binomial(trials, chance)
        law = Law(np.convolve(law.mass, part.mass), law.lowest + part.lowest)
    return law


def _binomial(trials: int, chance: float) -> Law:
    if trials * chance <= _NEGLIGIBLE:  # SciPy overflows at chances near the smallest float
        return Law(np.ones(1), 0)
    pmf = np.asarray(scipy.stats.binom.pmf(np.arange(trials + 1), trials, chance), dtype=np.float64)
    kept = np.flatnonzero(pmf > _NEGLIGIBLE)
    return Law(pmf[kept[0] : kept[-1] + 1], int(kept[0]))


@dataclass(frozen=True)
class OperatingPoint:
    """Exact probabilities of the three outcomes of the copy test at one true leak."""

    copied: int
    passes: float
    fails: float
    inconclusive: float


@dataclass(frozen=True)
class CopyTest:
    """Copy test with public constants.

    Args:
        patients: nominal number of trained patients (a constant of the plan), >= 1.
        false_rate: declared upper limit of a patient's false rate, 0..1 (1 excluded).
        recall: declared recall of the detector, in (0, 1].
        epsilon: parameter of the noise on the count, > 0.
        alpha: level of every one-sided statement, in (0, .5).

    Raises:
        InputError: a constant is out of its range.
    """

    patients: int
    false_rate: float
    recall: float
    epsilon: float
    alpha: float

    def __post_init__(self) -> None:
        geometric.check_epsilon(self.epsilon)
        if self.patients < 1:
            raise InputError("the nominal cohort has no trained patient", remedy="name a larger cohort")
        if not (0 <= self.false_rate < 1 and 0 < self.recall <= 1 and 0 < self.alpha < 0.5):
            raise InputError("false rate, recall or alpha of the copy test is out of range")

    def law(self, copied: int) -> Law:
        """Law of the noisy count with ``copied`` of the nominal patients copied, at the declared rates."""
        return count_law(self.patients, copied, self.false_rate, self.recall, self.epsilon)

    def least_law(self, copied: int) -> Law:
        """Stochastically smallest law with ``copied`` patients copied, whatever the cohort and false rate."""
        return count_law(copied, copied, 0.0, self.recall, self.epsilon)

    @property
    def critical(self) -> int:
        """Smallest count that refutes "nobody was copied" at level alpha."""
        law = self.law(0)
        tails = np.cumsum(law.mass[::-1])[::-1]
        return law.lowest + int(np.count_nonzero(tails > self.alpha))

    def power(self, copied: int) -> float:
        """P(count >= critical) with ``copied`` patients copied."""
        return self.law(copied).at_least(self.critical)

    def smallest_detectable(self) -> int | None:
        """Smallest number of copied patients seen with probability `POWER`; None where not even all are."""
        critical = self.critical

        def seen(copied: int) -> bool:
            return self.law(copied).at_least(critical) >= POWER

        return _first(seen, self.patients)

    def upper_bound(self, count: int) -> int:
        """Upper confidence bound (1 - alpha, one-sided) on the number of copied patients, at most nominal."""

        def refuted(copied: int) -> bool:
            return self.least_law(copied).at_most(count) <= self.alpha

        first = _first(refuted, self.patients)
        return self.patients if first is None else max(0, first - 1)

    def lower_bound(self, count: int) -> int:
        """Lower confidence bound (1 - alpha, one-sided) on the number of copied patients."""

        def possible(copied: int) -> bool:
            law = count_law(self.patients, copied, self.false_rate, 1.0, self.epsilon)
            return law.at_least(count) > self.alpha

        first = _first(possible, self.patients)
        return self.patients if first is None else first

    def estimate(self, count: int) -> int:
        """Moment estimate of the number of copied patients, clamped to 0..nominal."""
        expected = self.patients * self.false_rate
        return int(np.clip(round((count - expected) / (self.recall - self.false_rate)), 0, self.patients))

    def passes(self, count: int, tolerated: int) -> bool:
        """True where a leak of ``tolerated`` or more patients is refuted and the count is below critical."""
        return count < self.critical and self.least_law(tolerated).at_most(count) <= self.alpha

    def largest_passing(self, tolerated: int) -> int:
        """Largest count that passes; below every possible count where none does."""
        lowest, largest, least = self.law(0).lowest, self.critical - 1, self.least_law(tolerated)
        while largest >= lowest and least.at_most(largest) > self.alpha:
            largest -= 1
        return largest

    def operating_point(self, copied: int, tolerated: int) -> OperatingPoint:
        """Exact outcome probabilities when ``copied`` patients were copied and ``tolerated`` must not pass."""
        law, critical = self.law(copied), self.critical
        largest = self.largest_passing(tolerated)
        passes, fails = law.at_most(largest), law.at_least(critical)
        return OperatingPoint(copied, passes, fails, max(0.0, 1.0 - passes - fails))


def _first(holds: Callable[[int], bool], last: int) -> int | None:
    """Smallest k of 0..last with ``holds(k)``, for a predicate that stays true once true (bisection)."""
    if not holds(last):
        return None
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
