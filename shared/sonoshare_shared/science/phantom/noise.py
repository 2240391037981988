"""White noise: drawn on the host, or named by a key and made where the picture is painted.

Nearly all numbers that a phantom draws are white noise. `host_noise` draws it with numpy: the noise that releases and
ballots rest on. `keyed_noise` draws a key of 63 bits in its place; `torch_arithmetic.normals` makes the noise of a key
on a device, the same on every one, to the rounding of float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sonoshare_shared.science.phantom.arithmetic import Array, Values

Noise = Callable[[np.random.Generator, int, int], Values]
"""Complex white noise of unit variance in each part, [2, rows, columns], drawn or named."""


@dataclass(frozen=True)
class NoiseKey:
    """Noise that is still to be made.

    Attributes:
        key: what fixes it; in a batch, int64 [B].
        rows: of the noise.
        columns: of the noise; the first ones do not depend on how many there are.
    """

    key: Values
    rows: int
    columns: int


def host_noise(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Draw noise now."""
    return rng.standard_normal((2, rows, columns))


def keyed_noise(rng: np.random.Generator, rows: int, columns: int) -> NoiseKey:
    """Draw a key for it."""
    return NoiseKey(int(rng.integers(2**63)), rows, columns)
