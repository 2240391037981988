"""Two-sided geometric noise, drawn exactly.

``draw(epsilon, below)`` returns an integer with P(k) = (1 - a) / (1 + a) * a^|k|, a = exp(-epsilon). Added to a
count that changes by at most one between neighbouring data sets, it makes the count ``epsilon``-differentially
private (Ghosh, Roughgarden, Sundararajan 2009).

Promises: the draw is exact. It uses only integers and comparisons of rationals (Canonne, Kamath, Steinke, "The
discrete Gaussian for differential privacy", NeurIPS 2020, algorithms 1 and 2), so that no floating-point
rounding can be read from it. ``epsilon`` is taken as the rational number that the float *is*.

Does not promise: constant time. The running time depends on the noise, not on the data.

The probability mass function below is float64 and serves inference on figures that are already private.
"""

import math
import secrets
from collections.abc import Callable
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError

RandomBelow = Callable[[int], int]
"""``below(n)`` returns a uniform integer of 0..n-1; :func:`secrets.randbelow` wherever privacy rests on it."""

SYSTEM_RANDOM: Final[RandomBelow] = secrets.randbelow

TAIL_EXPONENT: Final = 40.0
"""The mass function is cut where a^|k| < exp(-40) (4e-18): below float64 resolution of a probability."""


def draw(epsilon: float, below: RandomBelow = SYSTEM_RANDOM) -> int:
    """Draw one exact two-sided geometric integer.

    Args:
        epsilon: privacy parameter of the count, > 0 and finite.
        below: source of uniform integers.

    Returns:
        An integer with P(k) proportional to exp(-epsilon * |k|).

    Raises:
        InputError: epsilon is not a positive finite number.
    """
    check_epsilon(epsilon)
    ratio = Fraction(epsilon)
    s, t = ratio.numerator, ratio.denominator
    while True:
        u = below(t)
        if not _bernoulli_exp(u, t, below):
            continue
        v = 0
        while _bernoulli_exp(1, 1, below):
            v += 1
        magnitude = (u + t * v) // s
        negative = below(2) == 1
        if negative and magnitude == 0:  # zero must not be counted twice
            continue
        return -magnitude if negative else magnitude


def _bernoulli_exp(numerator: int, denominator: int, below: RandomBelow) -> bool:
    """True with probability exp(-numerator/denominator), for 0 <= numerator <= denominator."""
    k = 1
    while below(denominator * k) < numerator:
        k += 1
    return k % 2 == 1


def mass(epsilon: float) -> tuple[NDArray[np.float64], int]:
    """Return the probability mass function of the noise and its half width W (support -W..W).

    Raises:
        InputError: epsilon is not a positive finite number.
    """
    check_epsilon(epsilon)
    width = math.ceil(TAIL_EXPONENT / epsilon)
    a = math.exp(-epsilon)
    k = np.abs(np.arange(-width, width + 1))
    return -math.expm1(-epsilon) / (1.0 + a) * np.exp(-epsilon * k), width


def variance(epsilon: float) -> float:
    """Return the variance of the noise, 2a / (1 - a)^2."""
    check_epsilon(epsilon)
    return 2.0 * math.exp(-epsilon) / math.expm1(-epsilon) ** 2


def check_epsilon(epsilon: float) -> None:
    """Refuse an epsilon that is not a positive finite number.

    Raises:
        InputError: it is not.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise InputError("the audit's epsilon must be a positive number", remedy="give for example 0.5")
