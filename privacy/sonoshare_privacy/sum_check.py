"""Does a pooled sum hold as much noise as was stated? A test on the sum alone, with an exact false-alarm probability.

The statement: every coordinate of the sum holds independent Gaussian noise of deviation sigma times the sensitivity,
and whatever else on top (patients, canaries, more noise), which does not depend on that noise.

The statistic counts the coordinates whose size is at most `WITHIN` deviations of the stated noise. Added to noise that
is symmetric and falls off from its middle, whatever is independent of it makes that rarer (Anderson 1955): for each
coordinate the chance is at most p = P(|N(0, 1)| <= WITHIN), given everything but the noise. So the count is at most
binomial(numbers, p) in distribution, over all coordinates of all steps: a count above that law's upper quantile says
that noise is missing. **No assumption is made on patients**, and none on how many hospitals there
are. (Discrete noise differs from Gaussian noise by less than 2**-69 a number.)

After the first step only three quarters of the coordinates are counted: those on which the *earlier* sums add up to
least. What patients add in every step alike is on the others, and the choice is made before the noise that is counted
was drawn, so the law of the count stays what it is.

Power: patients' gradients are large on few coordinates, so the others show the noise nearly bare. With t - 1 of t
shares the deviation is sqrt(1 - 1 / t) of the stated one; how many numbers notice it, `numbers_to_notice` says.

Not promised: that noise which is there is secret. A hospital that adds numbers which it tells others passes every test
of the sum; that t hospitals are honest stays an assumption. Nor that the sum is the true one: a hospital's own canaries
in it show that (``canaries``), and the coordinator's step is checked against it (``pooled_optimiser``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from sonoshare_privacy.pooled_release import PooledSum
from sonoshare_shared.errors import InputError

WITHIN: Final = 1.5
"""Deviations; near here a change of the deviation moves the count most."""
FALSE_ALARM: Final = 1e-6
"""Of one test of all steps of a study."""
POWER: Final = 0.95
"""With which a share that is missing is to be noticed."""
KEPT: Final = 0.75
"""Part of the coordinates that is counted after the first step."""
_CHANCE: Final = float(2 * ndtr(WITHIN) - 1)


@dataclass(frozen=True)
class SumCheck:
    """What the sums of a study say; a function of released sums, so it may leave.

    Attributes:
        numbers: looked at.
        enough: whether the noise is not found to be less than stated.
        noise: estimated deviation over the stated one; an upper estimate, for whatever else is in a sum only adds.
        smallest: a deviation below this part of the stated one is noticed with probability .95, if few coordinates hold
            anything else.
    """

    numbers: int
    enough: bool
    noise: float
    smallest: float


@dataclass(frozen=True)
class Counted:
    """What the sums so far have shown; public, and all that is kept of them.

    Attributes:
        earlier: float64 [D], the sums so far added up.
        small: coordinates counted that were small.
        numbers: coordinates counted.
    """

    earlier: NDArray[np.float64]
    small: int = 0
    numbers: int = 0

    @classmethod
    def nothing(cls, dimension: int) -> "Counted":
        """Before the first sum of so many coordinates, the loss not among them."""
        return cls(np.zeros(dimension))

    def after(self, one: PooledSum) -> "Counted":
        """With one sum more; the loss coordinate is left out, for it is never bare."""
        seen = one.integers[:-1].astype(np.float64)
        counted = seen[_quietest(self.earlier)] if self.numbers else seen
        small = int((np.abs(counted) <= WITHIN * one.grid.deviation).sum())
        return Counted(self.earlier + seen, self.small + small, self.numbers + len(counted))

    def check(self) -> SumCheck:
        """The verdict.

        Raises:
            InputError: there were no sums.
        """
        if not self.numbers:
            raise InputError("there are no sums to look at")
        return SumCheck(
            numbers=self.numbers,
            enough=plausible(self.small, self.numbers),
            noise=_estimate(self.small, self.numbers),
            smallest=smallest_noticed(self.numbers),
        )


def check_sums(sums: Sequence[PooledSum]) -> SumCheck:
    """Test the sums of a study's steps together, in order.

    Raises:
        InputError: there are none.
    """
    counted = Counted.nothing(len(sums[0].integers) - 1 if sums else 0)
    for one in sums:
        counted = counted.after(one)
    return counted.check()


def _quietest(earlier: NDArray[np.float64]) -> NDArray[np.intp]:
    """Places of the three quarters of the coordinates on which earlier sums add up to least."""
    kept = math.ceil(KEPT * len(earlier))
    return np.argpartition(np.abs(earlier), kept - 1)[:kept]


def plausible(small: int, numbers: int) -> bool:
    """Whether so many small numbers of so many are not too many for the stated noise."""
    return float(scipy.stats.binom.sf(small - 1, numbers, _CHANCE)) >= FALSE_ALARM


def _estimate(small: int, numbers: int) -> float:
    part = min(max(small / numbers, 1 / numbers), 1 - 1 / numbers)
    return WITHIN / float(ndtri((1 + part) / 2))


@lru_cache(maxsize=64)
def smallest_noticed(numbers: int) -> float:
    """Part of the stated deviation below which noise is noticed with probability `POWER`, on bare coordinates."""
    limit = float(scipy.stats.binom.isf(FALSE_ALARM, numbers, _CHANCE))
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        chance = float(2 * ndtr(WITHIN / middle) - 1)
        low, high = (middle, high) if float(scipy.stats.binom.sf(limit, numbers, chance)) >= POWER else (low, middle)
    return low


def numbers_to_notice(honest: int) -> int:
    """How many bare coordinates notice (`POWER`) that one share of ``honest`` is missing; a power of two."""
    part, numbers = math.sqrt(1 - 1 / honest), 2
    while smallest_noticed(numbers) < part:
        numbers *= 2
    return numbers
