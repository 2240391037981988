"""How many places a chunk has: one public number for a whole training.

Every chunk of a training has the same number of rows, whatever the sample: libraries choose kernels by shape, and
kernels decide last bits, so a shape that followed the sample would let each patient's gradient depend on how many
others were sampled. What is left over in a chunk is padded, and padding costs time. The number of places is chosen to
make the expected cost of a step small, from public constants only: the memory, the rows that may be computed at once,
K draws, and the expected sample size, which is the plan's divisor.
"""

from typing import Final

import numpy as np
import scipy

from sonoshare_privacy.patient_gradients.buffer import MOST_PATIENTS

_CPU: Final = "cpu"
_OVERHEAD_ON_CPU: Final = 2.0
"""What a chunk costs beside its rows, in rows: measured 0.3 to 3 on networks of 20 thousand numbers and more."""
_OVERHEAD_ON_GPU: Final = 64.0
"""The same where it is the starting of kernels: 20 to 190 by two networks' times in chunks and at once on one H100,
before draws and weight gradients had fewer kernels; not measured since."""
_SPREAD: Final = 12.0
"""Standard deviations of the sample size beyond which nothing is counted."""


def places_of_chunk(*, draws: int, expected: float, most: int, device: str = _CPU) -> int:
    """The power of two, at most ``most``, with the smallest expected cost of a step.

    Args:
        draws: K, rows of a patient.
        expected: patients in a sample on average; public.
        most: places that memory allows.
        device: its kind: ``cpu``, or another, which is taken for a GPU.

    Returns:
        Between 1 and `MOST_PATIENTS`.
    """
    spread = _SPREAD * np.sqrt(expected) + _SPREAD
    sizes = np.arange(max(0, int(expected - spread)), int(expected + spread) + 1)
    chance = scipy.stats.poisson.pmf(sizes, expected)
    candidates = [1 << power for power in range(MOST_PATIENTS.bit_length()) if 1 << power <= max(1, most)]

    overhead = _OVERHEAD_ON_CPU if device == _CPU else _OVERHEAD_ON_GPU

    def cost(places: int) -> float:
        return float((chance * np.ceil(sizes / places)).sum()) * (places * draws + overhead)

    return min(candidates, key=cost)
