"""Numbers as integers modulo 2^64 with a public unit: a weighted sum of several hospitals is exact and never wraps.

Precondition: every number is at most ``reach`` in size, a public bound; weights are positive integers that add up to
less than 2^30 (the plan's nominal cohorts).

Claim: a number x of one hospital becomes the integer k nearest to x / unit, and its weight times k travels. For any set
of hospitals the integers add up to sum(weight * k), exactly: it is below 2^62 in size, so modulo 2^64 nothing is lost.
Divided by the sum of weights it lies within unit / 2 of the exact weighted mean, whatever the number of hospitals
(``mean_error``; float64 adds at most 2^-52 of the mean). The unit is a power of two, at most 2^-31 of the reach.

Sums that no numbers within the reach can have are refused. Everything else that a hospital may add is let pass: nobody
sees a single one's integers. Proof: docs/proofs/masked-sums.md.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError, IntegrityError

Words = NDArray[np.uint64]

_RESOLUTION_BITS: Final = 32
LARGEST_TOTAL: Final = 1 << 30
"""Sums of weights stay below this."""


@dataclass(frozen=True)
class Grid:
    """Where numbers of one kind become integers.

    Attributes:
        exponent: the unit is two to this.
        most: largest size of a number, in units.
    """

    exponent: int
    most: int

    @classmethod
    def of(cls, reach: float) -> "Grid":
        """The grid of numbers that are at most ``reach`` in size.

        Raises:
            InputError: the reach is not positive and finite.
        """
        if not (math.isfinite(reach) and reach > 0):
            raise InputError("numbers that are masked have a finite public bound", remedy="check the plan's constants")
        exponent = math.frexp(reach)[1] - _RESOLUTION_BITS
        return cls(exponent, math.ceil(math.ldexp(reach, -exponent)))

    @property
    def mean_error(self) -> float:
        """Furthest that a decoded mean lies from the exact one, but for float64's rounding."""
        return math.ldexp(0.5, self.exponent)


def encode(values: NDArray[Any], grid: Grid, weight: int) -> Words:
    """Numbers as words: the nearest integers times the weight, modulo 2^64.

    Args:
        values: float [n].
        grid: of these numbers.
        weight: of this hospital, a public constant.

    Raises:
        IntegrityError: a number is not finite, or beyond the reach.
        InputError: the weight is out of range.
    """
    if not 0 < weight < LARGEST_TOTAL:
        raise InputError("a weight is a positive whole number below 2^30", remedy="use smaller nominal cohorts")
    counted = np.rint(np.ldexp(values.astype(np.float64), -grid.exponent))
    if not (np.abs(counted) <= grid.most).all():  # false for NaN as well
        raise IntegrityError("a number is beyond the bound that it is masked under", remedy="discard it")
    return (counted.astype(np.int64) * np.int64(weight)).view(np.uint64)


def decode(words: Words, grid: Grid, total: int) -> NDArray[np.float64]:
    """The weighted mean that a sum of words stands for.

    Args:
        words: the sum, uint64 [n].
        grid: of these numbers.
        total: sum of the weights of exactly the hospitals that are in the sum.

    Returns:
        float64 [n].

    Raises:
        IntegrityError: no numbers within the reach have this sum; a hospital's are not what it should have sent, or
            masks did not cancel.
        InputError: the weights are out of range.
    """
    if not 0 < total < LARGEST_TOTAL:
        raise InputError("weights add up to less than 2^30", remedy="use smaller nominal cohorts")
    summed, bound = words.view(np.int64), total * grid.most
    if not ((-bound <= summed) & (summed <= bound)).all():
        raise IntegrityError("the masked sum is beyond what the hospitals' numbers can add up to")
    return np.ldexp(summed.astype(np.float64), grid.exponent) / total
