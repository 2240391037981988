"""The shortcut test: can a classifier tell synthetic pictures from real ones?

If it can, a classifier that is trained on both may learn *who made the picture* instead of what is in it, most of all
where one class is mostly synthetic. An AUC of 0.5 says that the small CNN of ``classifier`` cannot tell, 1 that it
always can. BUSGen (Yu et al. 2026) asks the same of its pictures.

Patients are split into parts; the CNN learns on all parts but one which pictures are synthetic and scores the last.
Both sides enter with equally many pictures of each class, at eight bits as a release has them, so that neither a class
nor finer grey levels give a side away. Positive is synthetic. The interval is over resampled patients and synthetic
pictures; the variance of training is not in it.

Promises: no patient is trained on and scored. Not promised: that an AUC of 0.5 for this CNN holds for a larger one.
Not private: on patients the result is a statistic of patients like any other. A hospital that runs this on its own
pictures keeps the figure for its own eyes; telling it to others would be a release that no ledger was charged for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation.auc import Estimate, patient_bootstrap
from sonoshare_shared.science.evaluation.classifier import fit
from sonoshare_shared.science.evaluation.folds import patient_folds, within_fold_ranks
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.levels import eight_bits, fractions

FOLDS = 5


@dataclass(frozen=True)
class ShortcutReport:
    """What was measured.

    Attributes:
        area: AUC of telling synthetic pictures, mean over seeds.
        images: pictures of each side.
        patients: of the real side.
        folds: parts.
        seeds: classifiers of each part.
    """

    area: Estimate
    images: int
    patients: int
    folds: int
    seeds: int

    def as_json(self) -> dict[str, object]:
        """Fields as ``sonoshare evaluate shortcut --json`` prints them."""
        counts = {"images": self.images, "patients": self.patients, "folds": self.folds, "seeds": self.seeds}
        return {**self.area.as_json(), **counts}


def shortcut(
    synthetic: LabelledImages,
    real: LabelledImages,
    *,
    folds: int = FOLDS,
    seeds: Sequence[int] = (0,),
    steps: int | None = None,
    device: torch.device = CPU,
) -> ShortcutReport:
    """Measure how well the small CNN tells synthetic pictures from real ones.

    Args:
        synthetic: synthetic pictures; one that shares its patient with others stays in one part with them.
        real: real pictures of the same size and classes.
        folds: parts of the patients.
        seeds: seeds of the classifiers.
        steps: optimiser steps of each; by default those of the rule.
        device: where classifiers are trained.

    Raises:
        InputError: sizes or classes differ, no class or the very same picture is on both sides, or there are fewer
            patients than parts.
    """
    sides = _matched(synthetic, real)
    _require_other_pictures(synthetic, real)
    images = fractions(eight_bits(np.concatenate([side.images for side in sides])))
    made = np.repeat(np.array([1, 0]), [len(side) for side in sides])
    patients = np.concatenate([_named(side, kind) for side, kind in zip(sides, "sr", strict=True)])
    part = np.concatenate([patient_folds(side.patients, folds) for side in sides])
    scores = np.empty((len(seeds), len(made)))
    for row, seed in enumerate(seeds):
        for tested in range(folds):
            known, asked = part != tested, part == tested
            network = fit(images[known], made[known], steps=steps, seed=seed, device=device)
            scores[row, asked] = within_fold_ranks(network.predict(images[asked]))
    area = patient_bootstrap(made, scores, patients)
    return ShortcutReport(area, len(sides[0]), len(np.unique(sides[1].patients)), folds, len(seeds))


def _named(side: LabelledImages, kind: str) -> NDArray[np.str_]:
    """Patients under names that the two sides do not share."""
    return np.array([f"{kind} {name}" for name in side.patients])


def _require_other_pictures(synthetic: LabelledImages, real: LabelledImages) -> None:
    """A copy cannot be told from its original: a set that holds real pictures would look perfect here."""
    made, known = ({image.tobytes() for image in eight_bits(side.images)} for side in (synthetic, real))
    if count := len(made & known):
        said = "picture is" if count == 1 else "pictures are"
        raise InputError(f"{count} {said} on both sides", remedy="look at these first: a set of copies is no release")


def _matched(synthetic: LabelledImages, real: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Equally many pictures of each class on both sides, drawn at random, the same at every call."""
    if synthetic.classes != real.classes or synthetic.images.shape[1:] != real.images.shape[1:]:
        raise InputError("sets of different classes or sizes cannot be compared", remedy="load both the same way")
    kept: tuple[list[NDArray[np.intp]], list[NDArray[np.intp]]] = ([], [])
    for label in range(len(real.classes)):
        rows = [np.random.default_rng(label).permutation(np.flatnonzero(s.labels == label)) for s in (synthetic, real)]
        for side, some in zip(kept, rows, strict=True):
            side.append(some[: min(map(len, rows))])
    one, two = (np.sort(np.concatenate(rows)) for rows in kept)
    if not len(one):
        raise InputError("no class is on both sides", remedy="give pictures of the same classes")
    return synthetic.take(one), real.take(two)
