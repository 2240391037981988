"""The units of work of the few-shot benchmark, each kept in the work folder and left out when it is there.

A unit is a ballot (question), noisy or exact votes (question, fold, arm), an adapter or a classifier's scores. What is
tested on a fold was learned from patients of the other folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._utility_adapters import Training, patients_of, plain_adapter
from benchmarks._utility_votes import Voting, voted
from benchmarks._utility_work import Array, held_out_loss
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import Task
from sonoshare_shared.science.calibration.ballot import Ballot, ballot_from, make_ballot
from sonoshare_shared.science.calibration.choice import calibrated_phantoms, chances_of, shares_of
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation.auc import paired_difference, patient_bootstrap
from sonoshare_shared.science.evaluation.classifier import fit
from sonoshare_shared.science.evaluation.folds import within_fold_ranks
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.levels import eight_bits, fractions
from sonoshare_shared.science.model.adapter import load_adapter
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import profile_named
from sonoshare_shared.science.model.sampler import refine
from sonoshare_shared.science.model.tensors import read_tensors, write_tensors
from sonoshare_shared.science.tasks.files import read_task
from sonoshare_shared.science.tasks.phantoms import start_at_task, task_phantoms

PHANTOM_SEED: Final = 900
WAYS: Final = {
    "adapter": None,
    "votes": Voting(epsilon=None),
    "votes_eps1": Voting(),
    "own": None,
    "own_phantoms": None,
    "own_votes": Voting(epsilon=None),
}
"""How it is learned from patients; with how they vote, if they do."""
ADAPTER: Final = "adapter"
OWN: Final = {"own": False, "own_phantoms": True, "own_votes": True}
"""Ways in which the classifier sees the patients' own pictures; whether synthetic ones beside them."""


@dataclass(frozen=True)
class Arm:
    """A way to learn from a number of patients; no patients is the floor."""

    way: str
    patients: int

    @property
    def name(self) -> str:
        """As results and units name it."""
        return f"{self.way}_{self.patients}" if self.patients else "phantoms"


FLOOR: Final = Arm(ADAPTER, 0)


@dataclass(frozen=True)
class Question:
    """A task, where its labels are in BUS-BRA, which classes count as positive, and which rows are asked about."""

    task: Task
    column: str
    cells: Mapping[str, str]
    positive: tuple[str, ...]
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


QUESTIONS: Final = {
    "diagnosis": Question(
        task=read_task("diagnosis"),
        column="Pathology",
        cells={"benign": "benign", "malignant": "malignant"},
        positive=("malignant",),
    ),
    "hard-diagnosis": Question(
        task=read_task("diagnosis"),
        column="Pathology",
        cells={"benign": "benign", "malignant": "malignant"},
        positive=("malignant",),
        only={"BIRADS": ("2", "3", "4")},
    ),
    "birads": Question(
        task=read_task("birads"),
        column="BIRADS",
        cells={grade: f"birads-{grade}" for grade in "2345"},
        positive=("birads-4", "birads-5"),
    ),
    "histology": Question(
        task=Task(
            name="cysts",
            question="Is this benign lesion a cyst or a fibroadenoma?",
            classes=("fibroadenoma", "cyst"),
            phantoms={"fibroadenoma": {"benign": 1.0}, "cyst": {"benign": 1.0}},
        ),
        column="Histology",
        cells={"fibroadenoma": "fibroadenoma", "cyst": "cyst"},
        positive=("cyst",),
    ),
}


@dataclass(frozen=True)
class Settings:
    """What fixes the figures.

    Attributes:
        images: phantoms of a synthetic set.
        sampler_steps: of refining.
        start_time: how far a phantom is noised, of 1000.
        classifier_steps: of the small CNN; None for those of the rule.
        training: of the adapters.
        pool: phantoms of a ballot.
        kinds: of each class of a ballot; few, so that some patients stand behind each.
    """

    images: int = 600
    sampler_steps: int = 5
    start_time: int = 250
    classifier_steps: int | None = None
    training: Training = field(default_factory=lambda: Training(steps=48))
    pool: int = 3000
    kinds: int = 10


class FewShot:
    """One question on real images with folds, and a work folder.

    Args:
        question: what is asked.
        real: pictures labelled by the question's task.
        units: where finished units are kept.
        settings: those of the folder.
        name: of the question in units; by default its task's.
        device: where classifiers are trained.
    """

    def __init__(  # noqa: PLR0917
        self,
        question: Question,
        real: LabelledImages,
        units: Units,
        settings: Settings,
        name: str = "",
        device: torch.device = CPU,
    ) -> None:
        self._called, self._device = name or question.task.name, device
        self.question, self.real, self._units, self._settings = question, real, units, settings
        self._size = profile_named(settings.training.profile).size

    def positive(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """1 where a class of the task counts as positive, else 0."""
        wanted = [self.question.task.classes.index(name) for name in self.question.positive]
        return np.isin(labels, wanted).astype(np.int64)

    def rows(self, fold: int) -> NDArray[np.intp]:
        """Rows of the fold that is tested on."""
        return np.flatnonzero(self.real.folds == fold)

    def few(self, fold: int, patients: int) -> LabelledImages:
        """All pictures of some patients of the other folds; the classes take turns in giving one."""
        known = np.flatnonzero(self.real.folds != fold)
        random = np.random.default_rng((fold, patients))
        queues = []
        for label in range(len(self.question.task.classes)):
            names = np.unique(self.real.patients[known[self.real.labels[known] == label]])
            queues.append(random.permutation(names).tolist())
        chosen: dict[str, None] = {}
        while any(queues) and len(chosen) < patients:
            for queue in queues:
                if queue and len(chosen) < patients:
                    chosen[queue.pop()] = None
        return self.real.take(known[np.isin(self.real.patients[known], list(chosen))])

    def model(self, fold: int, patients: int) -> ConditionedUNet:
        """The base as a study of this task begins, with the adapter of these patients if there are any."""
        model, _ = load_base(self._settings.training.profile)
        start_at_task(model, self.question.task)
        if patients:

            def make(path: Path) -> None:
                known = patients_of(self.few(fold, patients))
                write_tensors(path, plain_adapter(known, self._settings.training, fold, self.question.task))

            path = self._units.file(self._name("adapter", fold, Arm(ADAPTER, patients)) + ".safetensors", make)
            load_adapter(model, read_tensors(path), self._settings.training.trained)
        return model

    def ballot(self) -> Ballot:
        """What patients vote on: kinds of the task's phantoms."""

        def make(path: Path) -> None:
            settings = self._settings
            ballot = make_ballot(self.question.task, self._size, pool=settings.pool, clusters=settings.kinds)
            write_atomically(path, ballot.to_bytes())

        return ballot_from(self._units.file(f"ballot-{self.question.task.name}.safetensors", make).read_bytes())

    def chances(self, fold: int, arm: Arm, voting: Voting) -> Array:
        """How often each phantom of the ballot's pool is drawn by the votes of an arm's patients."""
        ballot = self.ballot()

        def make() -> dict[str, object]:
            some = self.few(fold, arm.patients)
            options = ballot.chosen(some.images, some.labels, some.boxes)
            return {"votes": voted(options, some, ballot, voting).tolist()}

        unit = self._units.get(self._name("votes", fold, arm), make)
        if unit is None:
            raise InputError("no votes in the work folder", remedy="run without --report first")
        shares = shares_of(ballot, np.asarray(unit["votes"], dtype=np.int64))
        return chances_of(ballot, shares, voting.sharpness)

    def synthetic(self, fold: int, arm: Arm, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Pictures in 8 bits as a release has them, and the task's labels."""
        settings, task, voting = self._settings, self.question.task, WAYS[arm.way]
        if voting is not None:
            chances = self.chances(fold, arm, voting)
            drawn = calibrated_phantoms(self.ballot(), chances, task, settings.images, seed=PHANTOM_SEED + seed)
            return fractions(eight_bits(drawn.images)), drawn.labels
        phantoms = task_phantoms(task, settings.images, seed=PHANTOM_SEED + seed, size=self._size)
        if arm == FLOOR:
            return fractions(eight_bits(phantoms.images)), phantoms.labels
        refined = refine(
            self.model(fold, arm.patients),
            phantoms.images,
            phantoms.masks,
            Condition.of(phantoms.labels, None, phantoms.boxes),
            seed=PHANTOM_SEED + seed,
            start_time=settings.start_time,
            steps=settings.sampler_steps,
        )
        return fractions(eight_bits(refined.images)), phantoms.labels

    def training_set(self, fold: int, arm: Arm, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What an arm's classifier is trained on: synthetic pictures, the patients' own, or both."""
        if arm.way not in OWN:
            return self.synthetic(fold, arm, seed)
        own = self.few(fold, arm.patients)
        if not OWN[arm.way]:
            return own.images, own.labels
        images, labels = self.synthetic(fold, arm if WAYS[arm.way] else FLOOR, seed)
        return np.concatenate([images, own.images]), np.concatenate([labels, own.labels])

    def scores(self, fold: int, arm: Arm, seed: int) -> Array | None:
        """Scores of the fold's pictures by a classifier of an arm's training set."""

        def make() -> dict[str, object]:
            images, labels = self.training_set(fold, arm, seed)
            steps = self._settings.classifier_steps
            network = fit(images, self.positive(labels), steps=steps, seed=seed, device=self._device)
            return {"scores": network.predict(self.real.images[self.rows(fold)]).tolist()}

        unit = self._units.get(self._name("scores", fold, arm) + f"-seed{seed}", make)
        return None if unit is None else np.asarray(unit["scores"])

    def denoising(self, fold: int, arm: Arm) -> float | None:
        """Mean denoising loss of the fold's pictures under their own classes, times and noise fixed."""

        def make() -> dict[str, object]:
            held_out = self.real.take(self.rows(fold))
            return {"loss": held_out_loss(self.model(fold, arm.patients), held_out, fold)}

        unit = self._units.get(self._name("denoising", fold, arm), make)
        return None if unit is None else float(unit["loss"])

    def figures(self, folds: Sequence[int], arms: Sequence[Arm], seeds: int) -> dict[str, object]:
        """All that can be said from units that are there, or that are made now."""
        rows = np.concatenate([self.rows(fold) for fold in folds])
        labels, patients = self.positive(self.real.labels[rows]), self.real.patients[rows]
        result: dict[str, object] = {
            "test": {
                "patients": len(np.unique(patients)),
                "images": len(rows),
                "positive_images": int(labels.sum()),
            }
        }
        floor = self._pooled(folds, FLOOR, seeds)
        for arm in (FLOOR, *arms):
            table = floor if arm == FLOOR else self._pooled(folds, arm, seeds)
            losses = [self.denoising(fold, arm) for fold in folds] if arm.way == ADAPTER else []
            if table is None or floor is None or None in losses:
                result[arm.name] = None
                continue
            entry = {**patient_bootstrap(labels, table, patients).as_json()}
            if losses:
                entry["denoising"] = float(np.mean([loss or 0.0 for loss in losses]))
            if arm != FLOOR:
                entry["difference"] = paired_difference(labels, table, floor, patients).as_json("auc")
            result[arm.name] = entry
        return result

    def _pooled(self, folds: Sequence[int], arm: Arm, seeds: int) -> Array | None:
        table = []
        for seed in range(seeds):
            parts = [self.scores(fold, arm, seed) for fold in folds]
            if any(part is None for part in parts):
                return None
            table.append(np.concatenate([within_fold_ranks(part) for part in parts if part is not None]))
        return np.stack(table)

    def _name(self, what: str, fold: int, arm: Arm) -> str:
        return f"{what}-{self._called}-fold{fold}-{arm.name}"
