"""The learning rate of a study, round by round: a constant of the plan, the same at every hospital."""

from typing import Final

from sonoshare_privacy.optimiser import Optimiser

FINAL_FRACTION: Final = 0.1
"""Of the learning rate, at the end of the study."""


def round_optimiser(learning_rate: float, rounds: int, number: int) -> Optimiser:
    """The optimiser of round ``number``: its part of a learning rate that falls linearly over the whole study."""

    def share(done: float) -> float:
        return 1.0 - (1.0 - FINAL_FRACTION) * done

    start, end = share((number - 1) / rounds), share(number / rounds)
    return Optimiser(learning_rate=learning_rate * start, final_fraction=end / start)
