"""Train on synthetic, test on real: what a release is worth to somebody who trains a classifier.

The small CNN of ``classifier`` is trained with several seeds each on synthetic images, on real ones, on both, on
synthetic ones first and real ones then, and on few real patients with and without synthetic images (``arms``), and
tested on real images of patients that none of them saw: of the hospital at hand, and of other sets (``external``).
Figures are means over seeds with an interval over resampled test patients; differences are taken on the same
resamples. Training variance is averaged, not part of the interval.

Promises: training and test patients are disjoint (refused otherwise), and no picture of an external set is trained on
(refused otherwise). The classifier, its steps and its seeds are fixed in advance. Sensitivities are compared at one
specificity, each classifier by its own threshold *on the test images*: it says how the curves compare, not what a
threshold chosen beforehand would give. Not promised: that a higher figure holds for another classifier or another
hospital. Not private: on patients every figure is a statistic of patients.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.evaluation.arms import AGAINST, ARMS, Trained, Training, trained_arms
from sonoshare_shared.science.evaluation.auc import (
    Estimate,
    Statistic,
    auc_of_rows,
    paired_difference,
    patient_bootstrap,
    sensitivity_at,
)
from sonoshare_shared.science.evaluation.described import LESION_CROP, WHOLE, Described, describe, distances
from sonoshare_shared.science.evaluation.distances import NEIGHBOURS
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.evaluation.subgroups import subgroups

SPECIFICITY = 0.9
External = Mapping[str, LabelledImages]
_NONE: External = MappingProxyType({})


@dataclass(frozen=True)
class Tested:
    """One figure of every arm on one set of test patients.

    Attributes:
        figures: by arm.
        differences: of an arm minus the arm that it is compared with (``arms.AGAINST``), where both are there.
        images: tested on.
        patients: tested on.
    """

    figures: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    images: int
    patients: int


@dataclass(frozen=True)
class TstrReport:
    """What was measured; see the module's docstring.

    Attributes:
        areas: AUC.
        specificity: at which sensitivities are compared.
        sensitivity: at that specificity.
        subgroups: by scanner and class; see ``subgroups.subgroups``.
        distances: synthetic against real test images in EfficientNet-Lite0 features, ``whole`` and ``lesion_crop``; the
            latter None where boxes are known of too few images.
        train_patients: number of real patients to train on.
        few: patients of the arms of few patients, None without such arms.
        external: AUC on other sets, by name.
    """

    areas: Tested
    specificity: float
    sensitivity: Tested
    subgroups: Mapping[str, object]
    distances: Mapping[str, Mapping[str, float] | None]
    train_patients: int
    few: int | None = None
    external: Mapping[str, Tested] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Fields as ``sonoshare evaluate tstr --json`` prints them; an arm that was not trained is null."""
        return {
            **_by_arm(self.areas),
            "specificity": self.specificity,
            "sensitivity": {arm: figure.as_json("sensitivity") for arm, figure in self.sensitivity.figures.items()},
            "minus_real": {
                arm: {
                    "against": AGAINST[arm],
                    "auc": area.as_json("difference"),
                    "sensitivity": self.sensitivity.differences[arm].as_json("difference"),
                }
                for arm, area in self.areas.differences.items()
            },
            **(self.distances[WHOLE] or {}),
            LESION_CROP: self.distances[LESION_CROP],
            "features": "EfficientNet-Lite0",
            "subgroups": self.subgroups,
            "test_patients": self.areas.patients,
            "train_patients": self.train_patients,
            "few_patients": self.few,
            "external": {name: _external(tested) for name, tested in self.external.items()},
        }


def _by_arm(tested: Tested) -> dict[str, object]:
    return {arm: tested.figures[arm].as_json() if arm in tested.figures else None for arm in ARMS}


def _external(tested: Tested) -> dict[str, object]:
    return {
        **_by_arm(tested),
        "minus_real": {
            arm: {"against": AGAINST[arm], "auc": figure.as_json("difference")}
            for arm, figure in tested.differences.items()
        },
        "images": tested.images,
        "patients": tested.patients,
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


Scores = Mapping[str, NDArray[np.float64]]


def _scores(arms: Trained, test: LabelledImages) -> Scores:
    """Scores [seeds, n] of the test images by every arm, larger for the second class."""
    return {arm: np.stack([one.predict(test.images) for one in classifiers]) for arm, classifiers in arms.items()}


def _tested(test: LabelledImages, scores: Scores, statistic: Statistic) -> Tested:
    known = test.labels, test.patients
    compared = {arm: scores[other] for arm, other in AGAINST.items() if {arm, other} <= set(scores)}
    return Tested(
        {arm: patient_bootstrap(known[0], each, known[1], statistic=statistic) for arm, each in scores.items()},
        {
            arm: paired_difference(known[0], scores[arm], other, known[1], statistic=statistic)
            for arm, other in compared.items()
        },
        len(test),
        len(np.unique(test.patients)),
    )


def _distances(real: Described, synthetic: Described) -> dict[str, dict[str, float] | None]:
    found = distances(real, synthetic)
    if found[WHOLE] is None:
        raise InputError(f"a distance needs more than {NEIGHBOURS} images on each side", remedy="add images")
    return found


def _require_apart(train: LabelledImages | None, test: LabelledImages, external: External) -> None:
    """Nothing is trained on that is tested on; each test set has both classes."""
    if len(test.classes) != 2:
        raise InputError("the classifier tells two classes apart", remedy="name two classes")
    if train is not None and set(train.patients) & set(test.patients):
        raise InputError("some patients are in training and test", remedy="split by patient")
    known = set() if train is None else {image.tobytes() for image in train.images}
    for name, some in external.items():
        if len(np.unique(some.labels)) < 2:
            raise InputError(f"external set {name!r} lacks a class", remedy="give pictures of both classes")
        if any(image.tobytes() in known for image in some.images):
            raise InputError(f"external set {name!r} holds training pictures", remedy="name another set")


def tstr(
    synthetic: LabelledImages,
    test: LabelledImages,
    train: LabelledImages | None = None,
    *,
    training: Training | None = None,
    specificity: float = SPECIFICITY,
    few: int | None = None,
    external: External = _NONE,
) -> TstrReport:
    """Train on synthetic, on real, on both and on one after the other; test on real.

    Args:
        synthetic: labelled synthetic images, two classes.
        test: real images of patients to test on.
        train: real images of *other* patients to train on, or None.
        training: seeds, steps and device of the classifiers.
        specificity: at which sensitivities are compared.
        few: patients of ``train`` that the arms of few patients have, or None for no such arms.
        external: other real images to test on, by name.

    Returns:
        The report.

    Raises:
        InputError: when a patient is in both real sets, an external set holds a picture that is trained on, a set lacks
            a class, or the specificity is outside 0..1.
    """
    _require_apart(train, test, external)
    at = sensitivity_at(specificity)
    training = training or Training()
    arms = trained_arms(synthetic, train, few, training)
    scores = _scores(arms, test)
    sides = describe(test, training.device), describe(synthetic, training.device)
    return TstrReport(
        areas=_tested(test, scores, auc_of_rows),
        specificity=specificity,
        sensitivity=_tested(test, scores, at),
        subgroups=subgroups(test, scores, specificity, sides),
        distances=_distances(*sides),
        train_patients=0 if train is None else len(np.unique(train.patients)),
        few=few,
        external={name: _tested(some, _scores(arms, some), auc_of_rows) for name, some in external.items()},
    )
