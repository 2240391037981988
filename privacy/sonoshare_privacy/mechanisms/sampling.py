"""Which patients take part in a step: independent coins from a cryptographic source.

Poisson sampling is what the accountant's amplification rests on: every patient flips their own coin with public
probability ``rate`` in every step, so the size of the sample is random, private, and may be zero. Fixed-size
batches or shuffling would not satisfy the same epsilon.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.mechanisms.keystream import random_words
from sonoshare_shared.errors import InputError


def poisson_sample(population: int, rate: float) -> NDArray[np.int64]:
    """Flip one coin per patient.

    Args:
        population: number of patients (private; it leaves this function in the result's indices only).
        rate: public probability in (0, 1]; realised as floor(rate * 2**64) / 2**64, never above.

    Returns:
        Indices of the sampled patients, ascending; possibly none.

    Raises:
        InputError: the rate is not in (0, 1].
    """
    if not 0 < rate <= 1:
        raise InputError(f"sampling rate must be in (0, 1], not {rate}", remedy="correct the plan")
    if rate == 1:
        return np.arange(population, dtype=np.int64)
    threshold = np.uint64(math.floor(rate * 2.0**64))
    return np.flatnonzero(random_words(population) < threshold).astype(np.int64)
