"""The optimiser's public constants, and the rates that follow from them; the step itself is ``noisy_adam``.

They are known to everybody, the coordinator too, who checks what a round can have moved: nothing here needs torch.

The step of a tensor is ``learning_rate * rms(tensor at the start)`` in units of Adam's normalised moment (Kingma and
Ba, 2015), so that affine parameters and embeddings of very different size move alike; the result is the exponential
moving average of the iterates (free under DP, and the strongest cheap help against its noise).
"""

from dataclasses import dataclass

from sonoshare_shared.errors import InputError


@dataclass(frozen=True)
class Optimiser:
    """Public constants.

    Attributes:
        learning_rate: of each tensor's root mean square.
        momentum: decay of the first moment.
        second_moment: decay of the second moment.
        average: decay of the moving average of iterates that becomes the result; 0 takes the last iterate.
        smallest_rms: floor of a tensor's root mean square; tensors that start at zero move too.
        final_fraction: the learning rate falls linearly to this fraction over the steps of the study.
    """

    learning_rate: float = 0.02
    momentum: float = 0.9
    second_moment: float = 0.98
    average: float = 0.9
    smallest_rms: float = 0.02
    final_fraction: float = 0.1

    def __post_init__(self) -> None:
        decays = (self.momentum, self.second_moment, self.average)
        if not (self.learning_rate > 0 and self.smallest_rms > 0 and all(0 <= decay < 1 for decay in decays)):
            raise InputError("the optimiser's constants are out of range", remedy="rates above 0, decays in [0, 1)")


def rate_at(settings: Optimiser, taken: int, total: int) -> float:
    """Learning rate of the step after ``taken`` of ``total`` steps, before Adam's bias correction."""
    return settings.learning_rate * (1 - (1 - settings.final_fraction) * min(1.0, taken / total))


def averaging_decay(settings: Optimiser, averaged: int) -> float:
    """Share that the average of iterates keeps of itself when it takes in its next one, after ``averaged`` of them.

    It starts short and lengthens, so that the first steps are not stuck at the start.
    """
    return min(settings.average, (1 + averaged) / (10 + averaged))
