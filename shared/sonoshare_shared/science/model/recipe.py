"""How a base model is trained: the numbers, the course of the learning rate, and how weights are averaged.

Two courses of the learning rate, both after a linear warm-up (docs/decisions/0088-two-courses-of-a-base.md):

- ``inverse-root``: falls as 1/sqrt(step). It needs no length, so a run may be stopped anywhere: tiny and small.
- ``flat``: constant until ``FLAT_SHARE`` of the run's length, then linear down to ``LEAST_RATE`` of itself: medium and
  large. Without a length it stays constant. A length may be given, or changed, for as long as the rates so far are
  those that the new length gives too (`continues`).

Two averages of the weights: a power function of the step (Karras et al. 2024, section 3.1, sigma_rel 0.1), which
needs no length either, and an exponential one, whose memory grows to its full length over the first steps.

Not promised: that any number here is best. ``flat`` with its numbers is what one run of a 128 px network on one large
card used; ``inverse-root`` was tuned on a CPU.
"""

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from sonoshare_shared.errors import InputError

Course = Literal["inverse-root", "flat"]
INVERSE_ROOT: Final = "inverse-root"
FLAT: Final = "flat"
FLAT_SHARE: Final = 0.6
"""Share of a run's length for which ``flat`` stays at its highest rate."""
LEAST_RATE: Final = 0.02
"""Of the highest rate, at the end of a ``flat`` run."""
_AVERAGING_EXPONENT: Final = 6.94  # sigma_rel = 0.1


@dataclass(frozen=True)
class TrainSettings:
    """What fixes a training run, together with the profile and the data.

    Args:
        seed: of weights, order, noise and the simulation.
        phantoms: size of the simulated training set.
        batch_size: images per step.
        learning_rate: at its highest.
        warm_up: steps until then.
        course: of the learning rate, ``inverse-root`` or ``flat``.
        reference_step: from here an ``inverse-root`` rate falls.
        length: steps of a whole ``flat`` run; None: it stays constant.
        averaging: share of the average that a step keeps at most; None averages by a power function of the step.
        public_share: of each batch that public pictures make up, where there are any.
        crop: least side of the part of a public picture that is shown, as a fraction of it.
        gamma: standard deviation of the logarithm of the exponent that grey values are raised to.
        gain: standard deviation of the factor that they are multiplied with.
        drop: probability that a condition is absent, each on its own.
        clip_norm: of the batch gradient.
    """

    seed: int = 0
    phantoms: int = 12_000
    batch_size: int = 16
    learning_rate: float = 4e-3
    warm_up: int = 100
    course: Course = INVERSE_ROOT
    reference_step: int = 600
    length: int | None = None
    averaging: float | None = None
    public_share: float = 0.4
    crop: float = 0.85
    gamma: float = 0.15
    gain: float = 0.08
    drop: float = 0.1
    clip_norm: float = 1.0

    def checked(self) -> "TrainSettings":
        """Return the settings themselves if a run can be made of them.

        Raises:
            InputError: a length for a course that has none, or one that the warm-up fills; a share out of range.
        """
        if self.length is not None and self.course != FLAT:
            raise InputError("this profile's recipe has no length", remedy="leave out --length")
        if self.length is not None and FLAT_SHARE * self.length <= self.warm_up:
            least = math.floor(self.warm_up / FLAT_SHARE) + 1
            raise InputError(f"a run of {self.length} steps ends in its warm-up", remedy=f"use {least} steps or more")
        if not 0 <= self.public_share < 1 or not 0 < self.crop <= 1:
            raise InputError("a share of the batch or of a picture is out of range", remedy="use values within 0..1")
        return self


_FLAT: Final = TrainSettings(
    phantoms=100_000,
    batch_size=256,
    learning_rate=6e-4,
    warm_up=300,
    course=FLAT,
    length=3_000,
    averaging=0.9995,
)
_RECIPES: Final = {"medium": _FLAT, "large": replace(_FLAT, batch_size=64, phantoms=40_000, length=6_000)}


def recipe(profile: str) -> TrainSettings:
    """The settings that a profile is trained with unless others are given."""
    return _RECIPES.get(profile, TrainSettings())


def rate_at(settings: TrainSettings, step: int) -> float:
    """Learning rate of a step; steps count from 1."""
    warm = min(step / settings.warm_up, 1.0)
    if settings.course == INVERSE_ROOT:
        return settings.learning_rate * warm / math.sqrt(max(step / settings.reference_step, 1.0))
    if settings.length is None:
        return settings.learning_rate * warm
    flat = FLAT_SHARE * settings.length
    fallen = min(max((step - flat) / (settings.length - flat), 0.0), 1.0)
    return settings.learning_rate * warm * (1 - (1 - LEAST_RATE) * fallen)


def kept_at(settings: TrainSettings, step: int) -> float:
    """Share of the averaged weights that a step keeps; the first step keeps nothing of the untrained weights."""
    if settings.averaging is None:
        return float((1 - 1 / step) ** (_AVERAGING_EXPONENT + 1))
    return min(settings.averaging, (step - 1) / (step + 9))


def continues(new: TrainSettings, old: TrainSettings, step: int) -> bool:
    """Whether a run with new settings may go on from ``step`` steps of a run with old ones.

    They may differ in their length only, and every rate so far must be that of the new length too.
    """
    if replace(new, length=None) != replace(old, length=None):
        return False
    lengths = [each.length for each in (new, old) if each.length is not None]
    return new.length == old.length or step <= FLAT_SHARE * min(lengths)
