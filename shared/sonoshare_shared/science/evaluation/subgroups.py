"""Figures by scanner and by class: does a gain hold everywhere, or only on the commonest machine?

Promises: subgroups are parts of the same test images and scores, nothing is trained again; a subgroup with fewer than
`LEAST_PATIENTS` patients in a class has no AUC (null) rather than one without meaning. Scanners are compared among
themselves with no correction for looking at many: a single interval that excludes a difference is a hint. Distances of
subgroups are biased by their sizes: compare them between releases, not with each other.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.evaluation.auc import patient_bootstrap, thresholds
from sonoshare_shared.science.evaluation.described import Described, distances
from sonoshare_shared.science.evaluation.labelled import LabelledImages

LEAST_PATIENTS = 10
UNKNOWN = "unknown"

Scores = Mapping[str, NDArray[np.float64]]


def subgroups(
    test: LabelledImages, scores: Scores, specificity: float, sides: tuple[Described, Described]
) -> dict[str, object]:
    """Split a measurement.

    Args:
        test: real images that were scored.
        scores: [k, n] by arm.
        specificity: that thresholds keep on the whole test, for the share of a class that is called rightly.
        sides: real and synthetic images, for distances.

    Returns:
        ``scanner``: by device ``{images, patients, distances, ARM: {auc, interval} or null}``; distances are from the
        synthetic images of the same scanner where there are any, else from all. ``class``: by class ``{images,
        patients, distances, ARM: {right}}``, where ``right`` is the mean share over classifiers.
    """
    devices = np.where(test.devices == "", UNKNOWN, test.devices)
    return {
        "scanner": {
            str(name): _scanner(test, scores, devices == name) | {"distances": _of_scanner(sides, str(name))}
            for name in np.unique(devices)
        },
        "class": {
            name: _class(test, scores, specificity, index) | {"distances": _of_class(sides, index)}
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


def _of_scanner(sides: tuple[Described, Described], name: str) -> dict[str, dict[str, float] | None]:
    real, synthetic = sides
    device = "" if name == UNKNOWN else name
    same = synthetic.devices == device
    return distances(real, synthetic, (real.devices == device, same if same.any() else np.ones_like(same)))


def _of_class(sides: tuple[Described, Described], index: int) -> dict[str, dict[str, float] | None]:
    real, synthetic = sides
    return distances(real, synthetic, (real.labels == index, synthetic.labels == index))
