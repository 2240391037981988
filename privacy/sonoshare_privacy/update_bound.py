"""How far one round of training can move a trained number, whatever the gradients were.

Precondition: the round is run by `NoisyAdam` from a state of zeros, for ``steps`` steps of ``steps`` in all, with
``second_moment`` at least the square of ``momentum`` and below 1, and no gradient is larger than 1e18 (float32 has no
square of much larger ones; what comes of them is not finite, and refused for that).

Claim: no coordinate of a tensor moves further from its start than ``round_reach`` times the tensor's scale (its root
mean square at the start, at least ``smallest_rms``), for any sequence of gradients at all: of patients, of noise, or
made up. The claim is exact: a growing sequence of gradients reaches it. Arithmetic in float32 adds what
``rounding_slack`` allows.

Nothing here is private, and nothing promises privacy: an update that nobody's optimiser could have made is simply no
update. Proof: docs/proofs/update-bound.md. Source of the inequality: Cauchy and Schwarz.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.optimiser import Optimiser, averaging_decay, rate_at
from sonoshare_shared.errors import InputError

_RELATIVE_SLACK: Final = 1e-3
"""Of the bound, for moments in float32."""
_UNIT: Final = 2.0**-24
"""Rounding error of one float32 operation, of its result."""


def step_reach(settings: Optimiser, number: int) -> float:
    """Furthest that one step can move, in units of the learning rate and the tensor's scale.

    Args:
        settings: the optimiser's constants.
        number: of the step in its round, from 1.
    """
    ratio = settings.momentum**2 / settings.second_moment
    terms = number if ratio == 1 else (1 - ratio**number) / (1 - ratio)
    corrections = math.sqrt(1 - settings.second_moment**number) / (1 - settings.momentum**number)
    return (1 - settings.momentum) / math.sqrt(1 - settings.second_moment) * math.sqrt(terms) * corrections


def round_reach(settings: Optimiser, steps: int) -> float:
    """Furthest that a round's result can lie from its start, in units of the tensor's scale.

    Args:
        settings: the optimiser's constants in this round.
        steps: of the round, at least 1.

    Raises:
        InputError: constants for which there is no bound.
    """
    if not 0 < settings.second_moment < 1 or settings.momentum**2 > settings.second_moment:
        raise InputError("these decays bound no update", remedy="use a second moment of at least the momentum's square")
    if steps < 1:
        raise InputError("a round has at least one step", remedy="give a positive number of steps")
    iterate = average = 0.0
    for taken in range(steps):
        iterate += rate_at(settings, taken, steps) * step_reach(settings, taken + 1)
        decay = averaging_decay(settings, taken)
        average = decay * average + (1 - decay) * iterate
    return average


def tensor_scale(settings: Optimiser, start: NDArray[np.float32]) -> float:
    """The scale of a tensor's steps: its root mean square at the start, at least the floor."""
    return max(float(np.sqrt(np.square(start, dtype=np.float64).mean())), settings.smallest_rms)


def rounding_slack(start: NDArray[np.float32], reach: float, steps: int) -> NDArray[np.float64]:
    """What float32 may add to ``reach`` for each coordinate of a tensor: every step rounds an iterate and an average.

    Args:
        start: the tensor before the round.
        reach: bound on the exact movement of its coordinates.
        steps: of the round.
    """
    return _RELATIVE_SLACK * reach + 2 * (steps + 1) * _UNIT * (np.abs(start, dtype=np.float64) + reach)
