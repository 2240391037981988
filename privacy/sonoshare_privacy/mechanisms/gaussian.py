"""The noise of private sums: a grid of integers, and discrete Gaussian noise that is drawn exactly on it.

The mechanism. One patient's contribution is a vector of ``dimension`` coordinates with L2 norm at most ``clip_norm``
(C). Each contribution is rounded to a grid whose step is a power of two, and the sum is taken over integers, so it
is exact whatever the order, the chunks and the number of processes. Rounding moves a contribution by at most
half a step in each coordinate, hence the L2 sensitivity (add or remove one patient) of the integer sum is

    C / step * (1 + 1e-9) + sqrt(dimension) / 2        [units of the grid]

and the noise's deviation is noise_multiplier times *that*. Released numbers are integers: their low bits say nothing
about the summands (Mironov, CCS 2012; Haney et al., 2022).

The noise is the discrete Gaussian, drawn without rounding (`sonoshare_privacy.mechanisms.discrete_gaussian`). What
separates it from the Gaussian that the accountant knows is below 2**-69 a number, and is counted in epsilon and delta
of record (`sonoshare_privacy.accounting`). Proof: ``docs/proofs/gaussian-noise.md``.

There is no seed, no insecure mode and no way to draw the same noise again.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch

from sonoshare_privacy.mechanisms.discrete_gaussian import add_discrete_gaussian
from sonoshare_shared.errors import InputError

SMALLEST_CLIP_NORM: Final = 1e-9
"""Below and above these no gradient of a usable network lies; float32 and float64 are far from their limits within."""
LARGEST_CLIP_NORM: Final = 1e9
LEAST_NOISE: Final = 1 / 64
"""Multiplier below which the bound between discrete and continuous noise is no longer that of the accountant."""
MOST_NOISE: Final = 1e6
MOST_COORDINATES: Final = 1 << 34

_GRID_BITS: Final = 44  # clip_norm is at least 2**44 steps, unless the noise is larger than 4 clip_norm
_LOUD: Final = 4.0  # noise multiplier from which the grid follows the noise: its integers stay below 2**52
_FLOAT_SLACK: Final = 1e-9  # relative, over the float64 error of norm and scaling


@dataclass(frozen=True)
class Grid:
    """Grid of a mechanism, from public constants only.

    Attributes:
        clip_norm: C, L2 bound of one patient's contribution before rounding; 1e-9 to 1e9.
        noise_multiplier: sigma, in units of the sensitivity; 1/64 to 1e6.
        dimension: number of coordinates.

    Raises:
        InputError: a constant is not finite or out of its range.
    """

    clip_norm: float
    noise_multiplier: float
    dimension: int

    def __post_init__(self) -> None:
        if not SMALLEST_CLIP_NORM <= self.clip_norm <= LARGEST_CLIP_NORM:
            raise InputError(
                f"a clip norm of {self.clip_norm:g} is out of range",
                remedy=f"take one between {SMALLEST_CLIP_NORM:g} and {LARGEST_CLIP_NORM:g}",
            )
        if not LEAST_NOISE <= self.noise_multiplier <= MOST_NOISE:
            raise InputError(
                f"a noise multiplier of {self.noise_multiplier:g} is out of range",
                remedy=f"there is no mode without noise; take one between {LEAST_NOISE:g} and {MOST_NOISE:g}",
            )
        if not 0 < self.dimension <= MOST_COORDINATES:
            raise InputError("there are no coordinates, or too many", remedy="train between 1 and 2**34 numbers")

    @property
    def step(self) -> float:
        """Distance of two neighbouring grid points, a power of two, in units of the contribution."""
        scale = self.clip_norm * max(1.0, self.noise_multiplier / _LOUD)
        return 2.0 ** (math.ceil(math.log2(scale)) - _GRID_BITS)

    @property
    def sensitivity(self) -> float:
        """L2 sensitivity of the integer sum, in grid units; the rounding is counted."""
        return self.clip_norm / self.step * (1 + _FLOAT_SLACK) + math.sqrt(self.dimension) / 2

    @property
    def deviation(self) -> float:
        """Deviation of the noise, in grid units."""
        return self.noise_multiplier * self.sensitivity


def gaussian_integers(count: int, deviation: float) -> torch.Tensor:
    """Draw discrete Gaussian noise with a fresh key.

    Args:
        count: how many numbers.
        deviation: between 1 and 2**56.

    Returns:
        int64 [count], independent.

    Raises:
        InputError: the deviation is not usable; there is no noise of size zero.
    """
    out = torch.zeros(count, dtype=torch.int64)
    add_gaussian_integers(out, deviation)
    return out


def add_gaussian_integers(total: torch.Tensor, deviation: float) -> None:
    """Add discrete Gaussian noise, drawn with a fresh key, to int64 [count] on the CPU, in place.

    Raises:
        InputError: as `gaussian_integers`.
    """
    add_discrete_gaussian(total.numpy(), deviation)
