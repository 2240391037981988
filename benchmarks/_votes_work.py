"""The units of work of the votes benchmark: rounds of votes of BUS-BRA's patients, and what a CNN learns from the set.

The mechanism, its noise and the ballots are the product's; there is no ledger to charge: the arm's epsilon is the one
that is named, of all of its rounds together (pure differential privacy adds up).
"""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._votes_rounds import Pool, drawn, next_pool
from sonoshare_privacy.mechanisms.votes import draw_votes
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.calibration.ballot import Ballot
from sonoshare_shared.science.calibration.choice import chances_of, shares_of
from sonoshare_shared.science.calibration.views import projected, seen
from sonoshare_shared.science.evaluation.auc import auc
from sonoshare_shared.science.evaluation.classifier import fit
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.levels import eight_bits, fractions
from sonoshare_shared.science.model.tensors import read_tensors, write_tensors
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.tasks.files import read_task

TASK: Final = read_task("diagnosis")
RELEASE_SEED: Final = 500


@dataclass(frozen=True)
class Arm:
    """How a set is voted for.

    Attributes:
        rounds: of votes; 0 draws phantoms by the priors.
        epsilon: of all rounds together; 0 for counts without noise, of patients whose pictures are public.
        sharpness: how strongly phantoms that are typical of their class are preferred.
        contrast: a vote is for the kind whose squared distance, less this share of the kind's own squared distance to
            the other class, is smallest; 0 for the nearest.
        pool: phantoms of a round's ballot after the first.
    """

    rounds: int = 1
    epsilon: float = 1.0
    sharpness: float = 2.0
    contrast: float = 0.0
    pool: int = 2000

    @classmethod
    def of(cls, text: str) -> "Arm":
        """Read ``rounds=3,epsilon=7``.

        Raises:
            InputError: a name or a number is not understood.
        """
        given = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
        if len(given) != len([part for part in text.split(",") if part]) or set(given) - set(cls.__dataclass_fields__):
            raise InputError(f"'{text}' is not an arm", remedy="write it like rounds=3,epsilon=7")
        kinds = {"rounds": int, "pool": int}
        return cls(**{name: kinds.get(name, float)(value) for name, value in given.items()})  # type: ignore[arg-type]

    @property
    def key(self) -> str:
        """Its name in files."""
        return f"r{self.rounds}-e{self.epsilon:g}-s{self.sharpness:g}-c{self.contrast:g}-p{self.pool}"


@dataclass(frozen=True)
class VotesBench:
    """Real pictures, the first ballot and a work folder.

    Attributes:
        real: BUS-BRA, or any set with folds.
        ballot: of the first round.
        units: of the work folder.
        images: of each synthetic set.
        steps: of the small CNN, the same for all arms.
        side: pictures are averaged down to this side, pixels, before the CNN sees them.
    """

    real: LabelledImages
    ballot: Ballot
    units: Units
    images: int
    steps: int
    side: int

    def scores(self, fold: int, arm: Arm, seed: int) -> NDArray[np.float64]:
        """Scores of a fold's pictures by the small CNN trained on an arm's set."""
        name = f"scores-{arm.key}-n{self.images}-t{self.steps}-{self.side}px-fold{fold}-seed{seed}"
        unit = self.units.get(name, lambda: {"scores": self._scores(fold, arm, seed).tolist()})
        return np.asarray([] if unit is None else unit["scores"])

    def auc(self, fold: int, arm: Arm, seed: int) -> float:
        """AUC on the fold."""
        return auc(self.real.labels[self.real.folds == fold], self.scores(fold, arm, seed))

    def _scores(self, fold: int, arm: Arm, seed: int) -> NDArray[np.float64]:
        images, labels = self.synthetic(fold, arm)
        network = fit(_smaller(images, self.side), labels, steps=self.steps, seed=seed)
        return network.predict(_smaller(self.real.images[self.real.folds == fold], self.side))

    def synthetic(self, fold: int, arm: Arm) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Pictures, in 8 bits as a release has them, and labels."""

        def make(path: Path) -> None:
            if arm.rounds:
                pool, votes = self.last(fold, arm)
                chances = chances_of(pool.ballot, shares_of(pool.ballot, votes), arm.sharpness)
                made = drawn(pool, chances, TASK, self.images, seed=RELEASE_SEED)
            else:
                made = simulate(self.images, seed=RELEASE_SEED, size=self.ballot.terms.size)
            parts = {"images": eight_bits(made.images), "labels": made.labels}
            write_tensors(path, {name: torch.from_numpy(part) for name, part in parts.items()})

        place = f"set-{arm.key}-n{self.images}-{f'fold{fold}' if arm.rounds else 'any'}.safetensors"
        stored = read_tensors(self.units.file(place, make))
        return fractions(stored["images"].numpy()), stored["labels"].numpy()

    def last(self, fold: int, arm: Arm) -> tuple[Pool, NDArray[np.int64]]:
        """Pool and noisy votes of an arm's last round."""
        pool = Pool.first(self.ballot)
        for number in range(1, arm.rounds + 1):
            votes = self._votes(fold, arm, number, pool.ballot)
            if number < arm.rounds:
                pool = self._next(fold, arm, number + 1, pool, votes)
        return pool, votes

    def diversity(self, fold: int, arm: Arm) -> tuple[float, float]:
        """How many pictures, and how many lesions, of one class a set is drawn from; see `diversity`."""
        pool, votes = self.last(fold, arm)
        return diversity(pool, chances_of(pool.ballot, shares_of(pool.ballot, votes), arm.sharpness))

    def _next(self, fold: int, arm: Arm, number: int, pool: Pool, votes: NDArray[np.int64]) -> Pool:
        def make(path: Path) -> None:
            chances = chances_of(pool.ballot, shares_of(pool.ballot, votes), arm.sharpness)
            next_pool(pool, chances, TASK, number, arm.pool).write(path)

        return Pool.read(self.units.file(f"pool-{arm.key}-fold{fold}-{number}.safetensors", make))

    def _votes(self, fold: int, arm: Arm, number: int, ballot: Ballot) -> NDArray[np.int64]:
        """Noisy votes of one round of the patients of the other folds."""

        def make(path: Path) -> None:
            chosen = self._chosen(fold, ballot, arm.contrast)
            each = arm.epsilon / arm.rounds
            exact = np.bincount(chosen, minlength=ballot.options)
            votes = np.array(draw_votes(chosen, ballot.options, each)) if each else exact
            write_tensors(path, {"votes": torch.from_numpy(votes.astype(np.int64))})

        place = f"votes-{arm.key}-fold{fold}-{number}.safetensors"
        return np.asarray(read_tensors(self.units.file(place, make))["votes"].numpy(), dtype=np.int64)

    def _chosen(self, fold: int, ballot: Ballot, contrast: float) -> NDArray[np.int64]:
        """The option of each patient of the other folds, by one picture drawn by the system's randomness."""
        known = np.flatnonzero(self.real.folds != fold)
        patients = self.real.patients[known]
        rows = np.array([_one_of(known[patients == name]) for name in np.unique(patients)])
        points = projected(self.views()[rows], ballot.mean, ballot.basis)
        if not contrast:
            return ballot.nearest(points, self.real.labels[rows])
        return _contrastive(ballot, points, self.real.labels[rows], contrast)

    def views(self) -> NDArray[np.float32]:
        """Features of both views of every real picture."""

        def make(path: Path) -> None:
            write_tensors(path, {"views": torch.from_numpy(seen(self.real.images, self.real.boxes))})

        return np.asarray(read_tensors(self.units.file("views.safetensors", make))["views"].numpy())


def diversity(pool: Pool, chances: NDArray[np.float64]) -> tuple[float, float]:
    """Effective numbers of pictures and of lesions of one class: as many that are equally likely repeat as often.

    One over the probability that two draws of a class are the same (Simpson's index), mean of the classes.
    """
    classes, pictures, lesions = pool.ballot.classes, [], []
    for label in range(classes):
        own, places = chances[label::classes], pool.parents[label::classes, 1]
        pictures.append(1 / np.sum(own**2))
        lesions.append(1 / np.sum(np.bincount(places, weights=own) ** 2))
    return float(np.mean(pictures)), float(np.mean(lesions))


def _contrastive(
    ballot: Ballot, points: NDArray[np.float32], labels: NDArray[np.int64], contrast: float
) -> NDArray[np.int64]:
    """Near the patient, far from the other classes' kinds (after PCEvolve: Zhang et al., ICML 2025)."""
    flat = ballot.centroids.reshape(ballot.classes, ballot.clusters, -1)
    others = [np.concatenate([flat[c] for c in range(ballot.classes) if c != label]) for label in range(ballot.classes)]
    apart = np.stack(
        [((own[:, None] - other) ** 2).sum(axis=2).min(axis=1) for own, other in zip(flat, others, strict=True)]
    )
    near = np.nansum((points[:, None] - ballot.centroids[labels]) ** 2, axis=(2, 3))
    return np.asarray(labels * ballot.clusters + np.argmin(near - contrast * apart[labels], axis=1), dtype=np.int64)


def _one_of(rows: NDArray[np.intp]) -> int:
    return int(rows[secrets.randbelow(len(rows))])


def _smaller(images: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    factor = images.shape[1] // side
    return np.asarray(images.reshape(len(images), side, factor, side, factor).mean(axis=(2, 4)), dtype=np.float32)
