"""Figures by scanner and by class: does a gain hold everywhere, or only on the commonest machine?

Promises: subgroups are parts of the same test images and scores, nothing is trained again; a subgroup with fewer than
`LEAST_PATIENTS` patients in a class has no AUC (null) rather than one without meaning. Scanners are compared among
themselves with no correction for looking at many: a single interval that excludes a difference is a hint.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.evaluation.auc import patient_bootstrap, thresholds
from sonoshare_shared.evaluation.distances import NEIGHBOURS, frechet
from sonoshare_shared.evaluation.labelled import LabelledImages

LEAST_PATIENTS = 10
UNKNOWN = "unknown"

Scores = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Described:
    """Images as features [n, d] and labels [n]."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]


def subgroups(
    test: LabelledImages, scores: Scores, specificity: float, sides: tuple[Described, Described]
) -> dict[str, object]:
    """Split a measurement.

    Args:
        test: real images that were scored.
        scores: [k, n] by arm.
        specificity: that thresholds keep on the whole test, for the share of a class that is called rightly.
        sides: real and synthetic images for distances by class.

    Returns:
        ``scanner``: by device ``{images, patients, ARM: {auc, interval} or null}``; ``class``: by class ``{images,
        patients, frechet, ARM: {right}}``, where ``right`` is the mean share over classifiers.
    """
    devices = np.where(test.devices == "", UNKNOWN, test.devices)
    return {
        "scanner": {str(name): _scanner(test, scores, devices == name) for name in np.unique(devices)},
        "class": {
            name: _class(test, scores, specificity, index) | {"frechet": _distance(sides, index)}
            for index, name in enumerate(test.classes)
        },
    }


def _scanner(test: LabelledImages, scores: Scores, rows: NDArray[np.bool_]) -> dict[str, object]:
    labels, patients = test.labels[rows], test.patients[rows]
    fewest = min(len(np.unique(patients[labels == value])) for value in (0, 1))
    return {
        "images": int(rows.sum()),
        "patients": len(np.unique(patients)),
        **{
            arm: patient_bootstrap(labels, table[:, rows], patients).as_json() if fewest >= LEAST_PATIENTS else None
            for arm, table in scores.items()
        },
    }


def _class(test: LabelledImages, scores: Scores, specificity: float, index: int) -> dict[str, object]:
    rows, positive = test.labels == index, test.labels == 1
    called = {arm: table > thresholds(positive, table, specificity)[:, None] for arm, table in scores.items()}
    return {
        "images": int(rows.sum()),
        "patients": len(np.unique(test.patients[rows])),
        **{arm: {"right": float((each[:, rows] == (index == 1)).mean())} for arm, each in called.items()},
    }


def _distance(sides: tuple[Described, Described], index: int) -> float | None:
    of_class = [side.features[side.labels == index] for side in sides]
    return frechet(*of_class) if min(map(len, of_class)) > NEIGHBOURS else None
