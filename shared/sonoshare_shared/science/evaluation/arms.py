"""What the classifiers of ``tstr`` are trained on, for how long, and what each is compared with.

An arm is a way to train; it has one classifier a seed. How long follows from the number of pictures alone
(``classifier.RECIPE``). An arm that trains longer than real pictures alone has a control on real pictures that takes as
many steps: training longer can by itself be worth more than a synthetic set.

    synthetic                      against real
    both          the union        against real_as_long   real pictures, as many steps
    pretrained    one, then real   against real_longer    real pictures, as many steps as both parts together
    few           few real patients
    few_both      with synthetic   against few_as_long    the few, as many steps

Promises: a control that would take no other steps than what is there is not trained again. The few are the same for
all arms of a seed and other patients for another seed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, cast

import numpy as np
import torch

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation.classifier import RECIPE, Classifier, fit
from sonoshare_shared.science.evaluation.labelled import LabelledImages

SYNTHETIC, REAL, BOTH, PRETRAINED = "synthetic", "real", "both", "pretrained"
REAL_AS_LONG, REAL_LONGER = "real_as_long", "real_longer"
FEW, FEW_BOTH, FEW_AS_LONG = "few", "few_both", "few_as_long"
ARMS: Final = (SYNTHETIC, REAL, BOTH, REAL_AS_LONG, PRETRAINED, REAL_LONGER, FEW, FEW_BOTH, FEW_AS_LONG)
AGAINST: Final[Mapping[str, str]] = MappingProxyType(
    {
        SYNTHETIC: REAL,
        BOTH: REAL_AS_LONG,
        REAL_AS_LONG: REAL,
        PRETRAINED: REAL_LONGER,
        REAL_LONGER: REAL,
        FEW: REAL,
        FEW_BOTH: FEW_AS_LONG,
        FEW_AS_LONG: FEW,
    }
)

Trained = dict[str, list[Classifier]]


def _untold(_steps: int) -> None:
    """Nobody waits."""


@dataclass(frozen=True)
class Training:
    """What all arms share.

    Attributes:
        seeds: one classifier each.
        steps: of each set that is trained on; None follows the rule.
        device: where classifiers are trained.
        told: called with the steps of each classifier once it is trained.
    """

    seeds: Sequence[int] = (0, 1, 2)
    steps: int | None = None
    device: torch.device = CPU
    told: Callable[[int], None] = _untold

    def steps_for(self, images: int) -> int:
        """Steps for a set of that many pictures."""
        return RECIPE.steps_for(images) if self.steps is None else self.steps

    def on(
        self, sets: Sequence[LabelledImages], *, steps: int | None = None, starts: Sequence[Classifier] | None = None
    ) -> list[Classifier]:
        """One classifier a seed, each on its own set; with ``starts`` each goes on from one, which stays as it is."""
        before: Sequence[Classifier | None] = starts or [None] * len(self.seeds)
        trained = []
        for seed, known, start in zip(self.seeds, sets, before, strict=True):
            count = steps or self.steps_for(len(known))
            trained.append(fit(known.images, known.labels, steps=count, seed=seed, start=start, device=self.device))
            self.told(count)
        return trained

    def as_long(self, trained: list[Classifier], sets: Sequence[LabelledImages], others: int) -> list[Classifier]:
        """The control: classifiers of the same sets with the steps of a set that has ``others`` pictures more."""
        steps = [self.steps_for(len(known) + others) for known in sets]
        if steps == [self.steps_for(len(known)) for known in sets]:
            return trained
        return [
            replace(self, seeds=(seed,)).on([known], steps=count)[0]
            for seed, known, count in zip(self.seeds, sets, steps, strict=True)
        ]


def trained_arms(
    synthetic: LabelledImages, train: LabelledImages | None, few: int | None, training: Training
) -> Trained:
    """Train every arm that there are pictures for.

    Args:
        synthetic: labelled synthetic images.
        train: real images to train on, or None.
        few: patients of ``train`` for the arms of few patients, or None for no such arms.
        training: seeds, steps and device.

    Returns:
        Classifiers by arm, one a seed.

    Raises:
        InputError: the few patients cannot be drawn, or a set lacks a class.
    """
    n = len(training.seeds)
    # Drawn first: what cannot be drawn is found out before hours of training.
    some = [] if train is None or few is None else [few_patients(train, few, seed) for seed in training.seeds]
    arms: Trained = {SYNTHETIC: training.on([synthetic] * n)}
    if train is None:
        return arms
    arms[REAL] = training.on([train] * n)
    arms[BOTH] = training.on([joined(synthetic, train)] * n)
    arms[REAL_AS_LONG] = training.as_long(arms[REAL], [train] * n, len(synthetic))
    arms[PRETRAINED] = training.on([train] * n, starts=arms[SYNTHETIC])
    first, own = training.steps_for(len(synthetic)), training.steps_for(len(train))
    before = arms[REAL] if first == own else training.on([train] * n, steps=first)
    arms[REAL_LONGER] = training.on([train] * n, starts=before)
    if some:
        arms[FEW] = training.on(some)
        arms[FEW_BOTH] = training.on([joined(synthetic, each) for each in some])
        arms[FEW_AS_LONG] = training.as_long(arms[FEW], some, len(synthetic))
    return arms


class _Counting(Training):
    """Trains nothing: it says how many steps each classifier would take."""

    def on(
        self, sets: Sequence[LabelledImages], *, steps: int | None = None, starts: Sequence[Classifier] | None = None
    ) -> list[Classifier]:
        """As many places as there would be classifiers, all empty."""
        del starts
        for known in sets:
            self.told(steps or self.steps_for(len(known)))
        return cast("list[Classifier]", [None] * len(sets))


def planned_steps(synthetic: LabelledImages, train: LabelledImages | None, few: int | None, training: Training) -> int:
    """Steps that ``trained_arms`` will take with the same arguments, of all classifiers together.

    Raises:
        InputError: as ``trained_arms``.
    """
    steps: list[int] = []
    counting = _Counting(training.seeds, training.steps, training.device, steps.append)
    trained_arms(synthetic, train, few, counting)
    return sum(steps)


def few_patients(train: LabelledImages, count: int, seed: int) -> LabelledImages:
    """All pictures of some patients, drawn at random.

    Raises:
        InputError: there are not so many patients, or those drawn lack a class.
    """
    names = np.unique(train.patients)
    if not 1 <= count <= len(names):
        raise InputError(f"{count} of {len(names)} training patients", remedy="ask for fewer patients")
    chosen = np.random.default_rng(seed).choice(names, count, replace=False)
    some = train.take(np.isin(train.patients, chosen))
    if len(np.unique(some.labels)) < len(train.classes):
        raise InputError(f"the {count} patients of seed {seed} lack a class", remedy="ask for more patients")
    return some


def joined(first: LabelledImages, second: LabelledImages) -> LabelledImages:
    """The union of two sets with the same classes and size."""
    if first.classes != second.classes or first.images.shape[1:] != second.images.shape[1:]:
        raise InputError("sets of different classes or sizes cannot be joined", remedy="load both the same way")
    return LabelledImages(
        images=np.concatenate([first.images, second.images]),
        masks=np.concatenate([first.masks, second.masks]),
        labels=np.concatenate([first.labels, second.labels]),
        boxes=np.concatenate([first.boxes, second.boxes]),
        patients=np.concatenate([first.patients, second.patients]),
        devices=np.concatenate([first.devices, second.devices]),
        folds=np.concatenate([first.folds, second.folds]),
        classes=first.classes,
    )
