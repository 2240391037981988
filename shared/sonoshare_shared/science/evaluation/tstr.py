"""Train on synthetic, test on real: what a release is worth to somebody who trains a classifier.

The small CNN of ``classifier`` is trained with several seeds each on synthetic images, on real ones, on both, and on
synthetic ones first and real ones then (``pretrained``), and tested on real images of patients that none of them saw.
What goes on from synthetic images takes twice the steps, so it is compared with real images for as many
(``real_longer``): training longer alone can be worth more than a synthetic set. Figures are means over seeds with an
interval over resampled test patients; differences are taken on the same resamples. Training variance is averaged, not
part of the interval.

Promises: training and test patients are disjoint (refused otherwise). The classifier, its steps and its seeds are fixed
in advance. Sensitivities are compared at one specificity, each classifier by its own threshold *on the test images*: it
says how the curves compare, not what a threshold chosen beforehand would give. Not promised: that a higher figure holds
for another classifier or another hospital.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation.auc import (
    Estimate,
    Statistic,
    auc_of_rows,
    paired_difference,
    patient_bootstrap,
    sensitivity_at,
)
from sonoshare_shared.science.evaluation.classifier import STEPS, Classifier, fit
from sonoshare_shared.science.evaluation.described import LESION_CROP, WHOLE, Described, describe, distances
from sonoshare_shared.science.evaluation.distances import NEIGHBOURS
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.evaluation.subgroups import subgroups

SYNTHETIC, REAL, BOTH, PRETRAINED, REAL_LONGER = "synthetic", "real", "both", "pretrained", "real_longer"
SEEDS = (0, 1, 2)
SPECIFICITY = 0.9


@dataclass(frozen=True)
class TstrReport:
    """What was measured; see the module's docstring. What needs real training images is None without them.

    Attributes:
        synthetic: trained on synthetic images.
        real: trained on real images.
        both: trained on the union.
        pretrained: trained on synthetic images, then on real ones.
        real_longer: trained on real images for as many steps as ``pretrained``.
        specificity: at which sensitivities are compared.
        sensitivity: by arm.
        differences: AUC and sensitivity of each arm minus those of ``real``, by arm; ``pretrained`` minus
            ``real_longer``.
        subgroups: by scanner and class; see ``subgroups.subgroups``.
        distances: synthetic against real test images in EfficientNet-Lite0 features, ``whole`` and ``lesion_crop``; the
            latter None where boxes are known of too few images.
        test_patients: number of patients in the test.
        train_patients: number of real patients to train on.
    """

    synthetic: Estimate
    real: Estimate | None
    both: Estimate | None
    pretrained: Estimate | None
    real_longer: Estimate | None
    specificity: float
    sensitivity: Mapping[str, Estimate]
    differences: Mapping[str, tuple[Estimate, Estimate]]
    subgroups: Mapping[str, object]
    distances: Mapping[str, Mapping[str, float] | None]
    test_patients: int
    train_patients: int

    def as_json(self) -> dict[str, object]:
        """Fields as ``sonoshare evaluate tstr --json`` prints them."""
        arms = (SYNTHETIC, REAL, BOTH, PRETRAINED, REAL_LONGER)
        figures: dict[str, Estimate | None] = {arm: getattr(self, arm) for arm in arms}
        return {
            **{name: None if figure is None else figure.as_json() for name, figure in figures.items()},
            "specificity": self.specificity,
            "sensitivity": {name: figure.as_json("sensitivity") for name, figure in self.sensitivity.items()},
            "minus_real": {
                name: {
                    "against": _against(name),
                    "auc": area.as_json("difference"),
                    "sensitivity": sensitivity.as_json("difference"),
                }
                for name, (area, sensitivity) in self.differences.items()
            },
            **(self.distances[WHOLE] or {}),
            LESION_CROP: self.distances[LESION_CROP],
            "features": "EfficientNet-Lite0",
            "subgroups": self.subgroups,
            "test_patients": self.test_patients,
            "train_patients": self.train_patients,
        }


def _against(arm: str) -> str:
    """The arm on real images that an arm is compared with: it took as many steps."""
    return REAL_LONGER if arm == PRETRAINED else REAL


def half_of_patients(patients: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Choose about half of the patients, always the same half of the same names.

    Args:
        patients: [n], the patient of each image.

    Returns:
        bool [n], True for images of the chosen patients.
    """
    digests = {name: hashlib.sha256(str(name).encode()).digest()[0] for name in np.unique(patients)}
    return np.array([digests[name] < 128 for name in patients], dtype=np.bool_)


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


def _trained(
    images: LabelledImages,
    *,
    seeds: Sequence[int],
    steps: int,
    device: torch.device,
    starts: Sequence[Classifier | None] | None = None,
) -> list[Classifier]:
    """One classifier a seed; with ``starts`` each goes on from one of them, which is left as it is."""
    return [
        fit(images.images, images.labels, steps=steps, seed=seed, start=start, device=device)
        for seed, start in zip(seeds, starts or [None] * len(seeds), strict=True)
    ]


def _scores(
    synthetic: LabelledImages,
    test: LabelledImages,
    train: LabelledImages | None,
    *,
    seeds: Sequence[int],
    steps: int,
    device: torch.device,
) -> dict[str, NDArray[np.float64]]:
    """Scores [seeds, n] of the test images by every arm, larger for the second class."""
    trained = partial(_trained, seeds=seeds, steps=steps, device=device)
    arms = {SYNTHETIC: trained(synthetic)}
    if train is not None:
        arms |= {REAL: trained(train), BOTH: trained(joined(synthetic, train))}
        arms[PRETRAINED] = trained(train, starts=arms[SYNTHETIC])
        arms[REAL_LONGER] = trained(train, starts=arms[REAL])
    return {arm: np.stack([one.predict(test.images) for one in classifiers]) for arm, classifiers in arms.items()}


def _distances(real: Described, synthetic: Described) -> dict[str, dict[str, float] | None]:
    found = distances(real, synthetic)
    if found[WHOLE] is None:
        raise InputError(f"a distance needs more than {NEIGHBOURS} images on each side", remedy="add images")
    return found


def tstr(
    synthetic: LabelledImages,
    test: LabelledImages,
    train: LabelledImages | None = None,
    *,
    seeds: Sequence[int] = SEEDS,
    steps: int = STEPS,
    specificity: float = SPECIFICITY,
    device: torch.device = CPU,
) -> TstrReport:
    """Train on synthetic, on real, on both and on one after the other; test on real.

    Args:
        synthetic: labelled synthetic images, two classes.
        test: real images of patients to test on.
        train: real images of *other* patients to train on, or None.
        seeds: seeds of the classifiers.
        steps: optimiser steps of each.
        specificity: at which sensitivities are compared.
        device: where classifiers are trained and features computed.

    Returns:
        The report.

    Raises:
        InputError: when a patient is in both real sets, a set lacks a class, or the specificity is outside 0..1.
    """
    if len(test.classes) != 2:
        raise InputError("the classifier tells two classes apart", remedy="name two classes")
    if train is not None and set(train.patients) & set(test.patients):
        raise InputError("some patients are in training and test", remedy="split by patient")
    at = sensitivity_at(specificity)
    scores = _scores(synthetic, test, train, seeds=seeds, steps=steps, device=device)
    known = test.labels, test.patients
    sides = describe(test, device), describe(synthetic, device)

    def figure(arm: str, statistic: Statistic) -> Estimate:
        return patient_bootstrap(known[0], scores[arm], known[1], statistic=statistic)

    def difference(arm: str, statistic: Statistic) -> Estimate:
        return paired_difference(known[0], scores[arm], scores[_against(arm)], known[1], statistic=statistic)

    areas = {arm: figure(arm, auc_of_rows) for arm in scores}
    return TstrReport(
        synthetic=areas[SYNTHETIC],
        real=areas.get(REAL),
        both=areas.get(BOTH),
        pretrained=areas.get(PRETRAINED),
        real_longer=areas.get(REAL_LONGER),
        specificity=specificity,
        sensitivity={arm: figure(arm, at) for arm in scores},
        differences={
            arm: (difference(arm, auc_of_rows), difference(arm, at)) for arm in scores if REAL in scores and arm != REAL
        },
        subgroups=subgroups(test, scores, specificity, sides),
        distances=_distances(*sides),
        test_patients=len(np.unique(test.patients)),
        train_patients=0 if train is None else len(np.unique(train.patients)),
    )
