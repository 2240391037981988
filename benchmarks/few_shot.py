"""What an adapter from some tens of patients is worth for a question that the base was not trained on.

    python -m benchmarks.few_shot --work DIR [--busbra DIR] [--folds 1] [--patients 40,100] [--seeds 1] [--json]
        [--questions birads,histology] [--report]

BUS-BRA, official patient-disjoint folds, 64 px, public use: no privacy is claimed for these adapters (no clipping, no
noise; `_utility_adapters.plain_adapter`). Two questions:

- ``birads``: the shipped task (BI-RADS 2, 3, 4, 5); judged as 4 or 5 against 2 or 3. Its phantoms differ by class.
- ``histology``: cyst against fibroadenoma. Benign phantoms stand for both, so they say nothing (the floor is chance),
  and whatever a classifier learns from refined ones came from the patients.

For each fold and number of patients, that many patients of the *other* folds are drawn, the classes taking turns, and
an affine adapter is trained on them. 600 phantoms of the task are refined by it (time 250, 5 steps), the small CNN is
trained on them and scores the fold; ``phantoms`` are the same phantoms as they are. Scores become ranks within their
fold and are pooled; intervals and differences are over resampled test patients and do not contain the variance of
training.

Prints one JSON object as the last line of stdout: by question ``test`` (patients, images, positive images) and by arm
``{auc, interval, difference, denoising}``; ``denoising`` is the mean held-out loss (``phantoms``: the base's, untuned).
Every unit is kept in ``--work``; the same command goes on where it stopped; ``--report`` only reads.
"""

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._utility_adapters import Training, patients_of, plain_adapter
from benchmarks._utility_work import Array, eight_bits, held_out_loss
from benchmarks.utility import within_fold_ranks
from sonoshare_shared.documents import Task
from sonoshare_shared.evaluation.auc import paired_difference, patient_bootstrap
from sonoshare_shared.evaluation.classifier import STEPS, fit
from sonoshare_shared.evaluation.labelled import LabelledImages, load_labelled
from sonoshare_shared.evaluation.units import Units
from sonoshare_shared.labels import LabelTable, read_labels
from sonoshare_shared.model.adapter import load_adapter
from sonoshare_shared.model.base import load_base
from sonoshare_shared.model.conditions import Condition
from sonoshare_shared.model.network import ConditionedUNet
from sonoshare_shared.model.profiles import profile_named
from sonoshare_shared.model.sampler import refine
from sonoshare_shared.model.tensors import read_tensors, write_tensors
from sonoshare_shared.phantom import simulate
from sonoshare_shared.tasks.files import read_task
from sonoshare_shared.tasks.phantoms import start_at_pathologies, task_phantoms

BUSBRA: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "busbra"
WORK: Final = Path(__file__).resolve().parents[1] / "work" / "few-shot"
PHANTOM_SEED: Final = 900
FLOOR: Final = 0  # patients


@dataclass(frozen=True)
class Question:
    """A task, where its labels are in BUS-BRA, and which classes count as positive."""

    task: Task
    column: str
    cells: Mapping[str, str]
    positive: tuple[str, ...]


QUESTIONS: Final = {
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
        classifier_steps: of the small CNN.
        training: of the adapters.
    """

    images: int = 600
    sampler_steps: int = 5
    start_time: int = 250
    classifier_steps: int = STEPS
    training: Training = field(default_factory=lambda: Training(steps=48))


class FewShot:
    """One question on real images with folds, and a work folder.

    Args:
        question: what is asked.
        real: pictures labelled by the question's task.
        units: where finished units are kept.
        settings: those of the folder.
    """

    def __init__(self, question: Question, real: LabelledImages, units: Units, settings: Settings) -> None:
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
        start_at_pathologies(model, self.question.task)
        if patients != FLOOR:

            def make(path: Path) -> None:
                known = patients_of(self.few(fold, patients))
                write_tensors(path, plain_adapter(known, self._settings.training, fold, self.question.task))

            path = self._units.file(self._name("adapter", fold, patients) + ".safetensors", make)
            load_adapter(model, read_tensors(path), self._settings.training.trained)
        return model

    def synthetic(self, fold: int, patients: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Pictures in 8 bits as a release has them, and the task's labels."""
        settings = self._settings
        phantoms = task_phantoms(self.question.task, settings.images, seed=PHANTOM_SEED + seed, size=self._size)
        if patients == FLOOR:
            return eight_bits(phantoms.images).astype(np.float32) / 255, phantoms.labels
        refined = refine(
            self.model(fold, patients),
            phantoms.images,
            phantoms.masks,
            Condition.of(phantoms.labels, None, phantoms.boxes),
            seed=PHANTOM_SEED + seed,
            start_time=settings.start_time,
            steps=settings.sampler_steps,
        )
        return eight_bits(refined.images).astype(np.float32) / 255, phantoms.labels

    def scores(self, fold: int, patients: int, seed: int) -> Array | None:
        """Scores of the fold's pictures by a classifier of synthetic ones."""

        def make() -> dict[str, object]:
            images, labels = self.synthetic(fold, patients, seed)
            network = fit(images, self.positive(labels), steps=self._settings.classifier_steps, seed=seed)
            return {"scores": network.predict(self.real.images[self.rows(fold)]).tolist()}

        unit = self._units.get(self._name("scores", fold, patients) + f"-seed{seed}", make)
        return None if unit is None else np.asarray(unit["scores"])

    def denoising(self, fold: int, patients: int) -> float | None:
        """Mean denoising loss of the fold's pictures under their own classes, times and noise fixed."""

        def make() -> dict[str, object]:
            held_out = self.real.take(self.rows(fold))
            return {"loss": held_out_loss(self.model(fold, patients), held_out, fold)}

        unit = self._units.get(self._name("denoising", fold, patients), make)
        return None if unit is None else float(unit["loss"])

    def figures(self, folds: Sequence[int], sizes: Sequence[int], seeds: int) -> dict[str, object]:
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
        for size in (FLOOR, *sizes):
            table = floor if size == FLOOR else self._pooled(folds, size, seeds)
            losses = [self.denoising(fold, size) for fold in folds]
            name = "phantoms" if size == FLOOR else f"patients_{size}"
            if table is None or floor is None or None in losses:
                result[name] = None
                continue
            entry = {**patient_bootstrap(labels, table, patients).as_json(), "denoising": float(np.mean(losses))}
            if size != FLOOR:
                entry["difference"] = paired_difference(labels, table, floor, patients).as_json("auc")
            result[name] = entry
        return result

    def _pooled(self, folds: Sequence[int], patients: int, seeds: int) -> Array | None:
        table = []
        for seed in range(seeds):
            parts = [self.scores(fold, patients, seed) for fold in folds]
            if None in [None if part is None else 0 for part in parts]:
                return None
            table.append(np.concatenate([within_fold_ranks(part) for part in parts if part is not None]))
        return np.stack(table)

    def _name(self, what: str, fold: int, patients: int) -> str:
        return f"{what}-{self.question.task.name}-fold{fold}-patients{patients}"


def labelled_by(question: Question, busbra: Path) -> LabelTable:
    """BUS-BRA with the labels of a question; pictures that it does not ask about are left out."""
    with (busbra / "bus_data.csv").open(newline="") as file:
        cells = {f"{row['ID']}.png": question.cells.get(row[question.column]) for row in csv.DictReader(file)}
    table = read_labels(busbra)
    asked = ((row, cells[row.image.name]) for row in table)
    return LabelTable(table.folder, tuple(replace(row, label=label) for row, label in asked if label))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of finished units")
    parser.add_argument("--folds", default="1")
    parser.add_argument("--patients", default="40,100")
    parser.add_argument("--questions", default="birads,histology")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="only read what is there")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}", file=sys.stderr)
        print(json.dumps({"skipped": "BUS-BRA is not here"}))
        return
    folds, sizes = ([int(part) for part in text.split(",")] for text in (arguments.folds, arguments.patients))
    settings = Settings()
    profile = settings.training.profile
    probe = simulate(2, seed=PHANTOM_SEED, size=profile_named(profile).size)
    pinned = {
        "settings": asdict(settings),
        "base": load_base(profile)[1],
        "phantoms": hashlib.sha256(probe.images.tobytes()).hexdigest(),
    }
    units = Units(
        arguments.work,
        pinned,
        compute=not arguments.report,
        say=lambda name: print(name, file=sys.stderr, flush=True),
    )
    result: dict[str, object] = {"folds": folds, "seeds": arguments.seeds}
    for name in arguments.questions.split(","):
        question = QUESTIONS[name]
        real = load_labelled(
            labelled_by(question, arguments.busbra), profile_named(profile).size, question.task.classes
        )
        result[name] = FewShot(question, real, units, settings).figures(folds, sizes, arguments.seeds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
