"""Gaussian noise for private sums: cryptographic, on a grid of integers, never twice the same.

The mechanism. One patient's contribution is a vector of ``dimension`` coordinates with L2 norm at most ``clip_norm``
(C). Each contribution is rounded to a grid whose step is a power of two, and the sum is taken over integers, so it
is exact whatever the order, the chunks and the number of processes. Rounding moves a contribution by at most
half a step in each coordinate, hence the L2 sensitivity (add or remove one patient) of the integer sum is

    C / step * (1 + 1e-9) + sqrt(dimension) / 2        [units of the grid]

and the noise's standard deviation is noise_multiplier times *that*. The sum is an integer, so adding rounded real
Gaussian noise to it equals rounding the real Gaussian mechanism's output: post-processing. Released numbers are
integers: their low bits say nothing about the summands (Mironov, CCS 2012; Haney et al., 2022).

The numbers. AES-256 in counter mode under a key from ``os.urandom`` that lives for one call and is stored nowhere;
53-bit uniforms; Box-Muller in float64. Each coordinate comes from a lattice of 2**106 points, so that integers
in the tails are reached out to 8.5 standard deviations, where the noise ends (a mass of 2e-17 per number,
which is to be added to delta: below 1e-7 for five million numbers and a thousand steps).

There is no seed, no insecure mode and no way to draw the same noise again.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError

_GRID_BITS: Final = 44  # clip_norm is at least 2**44 steps, unless the noise is larger than 4 clip_norm
_LOUD: Final = 4.0  # noise multiplier from which the grid follows the noise: its integers stay below 2**52
_FLOAT_SLACK: Final = 1e-9  # relative, over the float64 error of norm and scaling
_BLOCK: Final = 1 << 15  # numbers per block: stays in the second-level cache
_UNIFORM_BITS: Final = 53
_WORD_BYTES: Final = 8
_AES_BLOCK_BYTES: Final = 16


@dataclass(frozen=True)
class Grid:
    """Grid of a mechanism, from public constants only.

    Attributes:
        clip_norm: C, L2 bound of one patient's contribution before rounding.
        noise_multiplier: sigma, in units of the sensitivity.
        dimension: number of coordinates.
    """

    clip_norm: float
    noise_multiplier: float
    dimension: int

    def __post_init__(self) -> None:
        if not (0 < self.clip_norm < math.inf and 0 < self.noise_multiplier < math.inf and self.dimension > 0):
            raise InputError(
                "clip norm, noise multiplier and dimension must be positive and finite",
                remedy="there is no mode without noise; correct the plan",
            )

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
        """Standard deviation of the noise, in grid units."""
        return self.noise_multiplier * self.sensitivity


def gaussian_integers(count: int, deviation: float) -> torch.Tensor:
    """Draw rounded Gaussian noise with a fresh key.

    Args:
        count: how many numbers.
        deviation: standard deviation before rounding, between 1 and 2**58.

    Returns:
        int64 [count], independent.

    Raises:
        InputError: the deviation is not usable; there is no noise of size zero.
    """
    out = torch.zeros(count, dtype=torch.int64)
    add_gaussian_integers(out, deviation)
    return out


def add_gaussian_integers(total: torch.Tensor, deviation: float) -> None:
    """Add rounded Gaussian noise, drawn with a fresh key, to int64 [count] in place; see `gaussian_integers`."""
    if not 1 <= deviation <= 2.0**58:
        raise InputError("the noise's deviation must be between 1 and 2**58 grid units", remedy="correct the plan")
    count = len(total)
    words = _word_stream(min(_BLOCK, count + count % 2))
    scratch = torch.empty(min(_BLOCK, count + count % 2), dtype=torch.float64)
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        _box_muller(words(), deviation, scratch)
        total[start : start + size] += scratch[:size].round_().to(torch.int64)


def random_words(count: int) -> NDArray[np.uint64]:
    """Cryptographic 64-bit words under a fresh key."""
    cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(_AES_BLOCK_BYTES))).encryptor()
    return np.frombuffer(cipher.update(bytes(_WORD_BYTES * count)), dtype=np.uint64)


def _word_stream(size: int) -> Callable[[], torch.Tensor]:
    """A function whose every call returns the next ``size`` words of one keystream, int64, in the same memory."""
    zeros = bytes(_WORD_BYTES * size)
    cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(_AES_BLOCK_BYTES))).encryptor()
    raw = bytearray(_WORD_BYTES * size + _AES_BLOCK_BYTES)
    words = torch.frombuffer(raw, dtype=torch.int64, count=size)

    def advance() -> torch.Tensor:
        cipher.update_into(zeros, raw)
        return words

    return advance


def _box_muller(words: torch.Tensor, deviation: float, out: torch.Tensor) -> None:
    """Fill ``out`` (float64, even size) with normal numbers from as many words, which are overwritten."""
    mask = (1 << _UNIFORM_BITS) - 1
    uniform = words.bitwise_right_shift_(64 - _UNIFORM_BITS).bitwise_and_(mask).to(torch.float64)
    half = len(uniform) // 2
    # (1 .. 2**53) / 2**53: zero, whose logarithm is infinite, cannot occur.
    radius = uniform[:half].add_(1.0).mul_(2.0**-_UNIFORM_BITS).log_().mul_(-2.0).sqrt_().mul_(deviation)
    angle = uniform[half:].mul_(2.0 * math.pi * 2.0**-_UNIFORM_BITS)
    torch.mul(radius, torch.cos(angle), out=out[:half])
    torch.mul(radius, torch.sin(angle), out=out[half:])
