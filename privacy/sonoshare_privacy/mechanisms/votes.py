"""Noisy votes: one patient, one option at most; the other form in which patients' choices leave a hospital.

Options are public. Each count gets independent two-sided geometric noise, exactly drawn. One patient changes one count
by one, so all counts together are epsilon-differentially private (add or remove one patient), and whatever is computed
from them (sums over hospitals, thresholds, shares) is post-processing. Charged as one `PureDP` event, before the call.

Promises: sensitivity 1, because a patient is one entry of ``chosen``; the noise is drawn once a call (a second call is
a second charge: store the result). Does not promise non-negative counts.

Traps, each shown to break in the tests: one vote an *image*; a vote that depends on other patients.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.mechanisms import geometric
from sonoshare_privacy.mechanisms.geometric import SYSTEM_RANDOM, RandomBelow
from sonoshare_shared.errors import InputError

ABSTAINS: Final = -1
"""The choice of a patient who votes for nothing."""


def draw_votes(
    chosen: NDArray[np.int64], options: int, epsilon: float, below: RandomBelow = SYSTEM_RANDOM
) -> tuple[int, ...]:
    """Draw the noisy count of every option.

    Args:
        chosen: int64 [n], one option per patient, or ``ABSTAINS``.
        options: how many there are (public).
        epsilon: privacy parameter with respect to one patient, > 0.
        below: source of uniform integers.

    Raises:
        InputError: a patient chose an option that is not there.
    """
    cast = chosen[chosen != ABSTAINS]
    if len(cast) and not 0 <= int(cast.min()) <= int(cast.max()) < options:
        raise InputError("a vote is for an option that is not there")
    counts = np.bincount(cast, minlength=options)
    return tuple(int(count) + geometric.draw(epsilon, below) for count in counts)
