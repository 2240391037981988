"""Train on synthetic, test on real: what a release is worth to somebody who trains a classifier.

The small CNN of ``classifier`` is trained on synthetic images, on real ones, and on both, with several seeds each, and
tested on real images of patients that none of them saw. Figures are the mean AUC over seeds with an interval over
resampled test patients; training variance is averaged, not part of the interval.

Promises: training and test patients are disjoint (refused otherwise). The classifier, its steps and its seeds are fixed
in advance. Not promised: that a higher figure holds for another classifier or another hospital.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.evaluation import features
from sonoshare_shared.evaluation.auc import Estimate, patient_bootstrap
from sonoshare_shared.evaluation.classifier import STEPS, fit
from sonoshare_shared.evaluation.distances import Distances, compare
from sonoshare_shared.evaluation.labelled import LabelledImages

SEEDS = (0, 1, 2)
MOST_FOR_DISTANCES = 2000
"""Images of each side that enter the distances; more cost minutes and change little."""


@dataclass(frozen=True)
class TstrReport:
    """What was measured; see the module's docstring.

    Attributes:
        synthetic: trained on synthetic images.
        real: trained on real images, or None where there are none to train on.
        both: trained on the union, or None.
        distances: synthetic against real test images, in EfficientNet-Lite0 features.
        test_patients: number of patients in the test.
        train_patients: number of real patients to train on.
    """

    synthetic: Estimate
    real: Estimate | None
    both: Estimate | None
    distances: Distances
    test_patients: int
    train_patients: int

    def as_json(self) -> dict[str, object]:
        """Fields as ``sonoshare evaluate tstr --json`` prints them."""
        return {
            "synthetic": self.synthetic.as_json(),
            "real": None if self.real is None else self.real.as_json(),
            "both": None if self.both is None else self.both.as_json(),
            **self.distances.as_json(),
            "features": "EfficientNet-Lite0",
            "test_patients": self.test_patients,
            "train_patients": self.train_patients,
        }


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


def scores_over_seeds(
    train: LabelledImages, test: LabelledImages, *, seeds: Sequence[int] = SEEDS, steps: int = STEPS
) -> NDArray[np.float64]:
    """Train one classifier a seed and score the test images.

    Args:
        train: labelled images, two classes.
        test: images to score.
        seeds: seeds of the classifiers.
        steps: optimiser steps of each.

    Returns:
        Scores [seeds, n], larger for the second class.
    """
    return np.stack([fit(train.images, train.labels, steps=steps, seed=s).predict(test.images) for s in seeds])


def train_and_test(
    train: LabelledImages, test: LabelledImages, *, seeds: Sequence[int] = SEEDS, steps: int = STEPS
) -> Estimate:
    """Mean AUC over seeds with an interval over resampled test patients; arguments as ``scores_over_seeds``."""
    scores = scores_over_seeds(train, test, seeds=seeds, steps=steps)
    return patient_bootstrap(test.labels, scores, test.patients)


def _some(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most ``MOST_FOR_DISTANCES`` images, evenly over the set."""
    if len(images) <= MOST_FOR_DISTANCES:
        return images
    return np.asarray(images[np.linspace(0, len(images) - 1, MOST_FOR_DISTANCES).astype(int)])


def tstr(
    synthetic: LabelledImages,
    test: LabelledImages,
    train: LabelledImages | None = None,
    *,
    seeds: Sequence[int] = SEEDS,
    steps: int = STEPS,
) -> TstrReport:
    """Train on synthetic, on real and on both; test on real.

    Args:
        synthetic: labelled synthetic images, two classes.
        test: real images of patients to test on.
        train: real images of *other* patients to train on, or None.
        seeds: seeds of the classifiers.
        steps: optimiser steps of each.

    Returns:
        The report.

    Raises:
        InputError: when a patient is in both real sets, or a set lacks a class.
    """
    if len(test.classes) != 2:
        raise InputError("the classifier tells two classes apart", remedy="name two classes")
    if train is not None and set(train.patients) & set(test.patients):
        raise InputError("some patients are in training and test", remedy="split by patient")
    return TstrReport(
        synthetic=train_and_test(synthetic, test, seeds=seeds, steps=steps),
        real=None if train is None else train_and_test(train, test, seeds=seeds, steps=steps),
        both=None if train is None else train_and_test(joined(synthetic, train), test, seeds=seeds, steps=steps),
        distances=compare(features.pooled(_some(test.images)), features.pooled(_some(synthetic.images))),
        test_patients=len(np.unique(test.patients)),
        train_patients=0 if train is None else len(np.unique(train.patients)),
    )
