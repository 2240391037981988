"""The units of work of the utility benchmark, each kept in the work folder and left out when it is there.

Folds are the official, patient-disjoint ones: what is tested on fold f was trained on the patients of the other folds.
A unit is one adapter (fold, arm), one synthetic set (fold, arm, seed) or one classifier's scores (fold, arm, seed).
The base, the simulator and the settings of a folder are pinned: another version is refused.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._utility_adapters import Training, patients_of, plain_adapter, private_adapter
from sonoshare_client.agent.training import loss_of
from sonoshare_shared.evaluation import features
from sonoshare_shared.evaluation.classifier import STEPS, fit, fit_probe
from sonoshare_shared.evaluation.described import crops
from sonoshare_shared.evaluation.labelled import LabelledImages
from sonoshare_shared.evaluation.units import Units
from sonoshare_shared.model.adapter import load_adapter
from sonoshare_shared.model.base import load_base
from sonoshare_shared.model.conditions import Condition
from sonoshare_shared.model.diffusion import stratified_times
from sonoshare_shared.model.network import ConditionedUNet
from sonoshare_shared.model.profiles import profile_named
from sonoshare_shared.model.sampler import refine
from sonoshare_shared.model.tensors import read_tensors, write_tensors
from sonoshare_shared.phantom import PhantomBatch, simulate

Array = NDArray[np.float64]

PHANTOM_ONLY: Final = "phantom_only"
EPSILON: Final = {"nonprivate": None, "dp_eps8": 8.0, "dp_eps3": 3.0}
ADAPTED: Final = tuple(EPSILON)
WITH_REAL: Final = ("real_only", "real_plus_synthetic", "real50", "real50_plus_synthetic")
ARMS: Final = (PHANTOM_ONLY, *ADAPTED, *WITH_REAL)
BESIDE_REAL: Final = "dp_eps8"  # the synthetic set that joins real images
PHANTOM_SEED: Final = 500
BATCH: Final = 64


@dataclass(frozen=True)
class Settings:
    """What fixes the figures.

    Attributes:
        images: of each synthetic set, classes taking turns.
        sampler_steps: of refining.
        start_time: how far a phantom is noised, of 1000.
        classifier_steps: of the small CNN.
        few: patients of the arms ``real50``.
        training: of the adapters.
    """

    images: int = 1000
    sampler_steps: int = 5
    start_time: int = 250
    classifier_steps: int = STEPS
    few: int = 50
    training: Training = field(default_factory=Training)


class Bench:
    """Real images, settings and a work folder.

    Args:
        real: BUS-BRA, or any set with folds.
        work: made if absent.
        settings: must be those of the folder's earlier runs.
        compute: False only reads what is there.
        say: told about each unit as it is made.
    """

    def __init__(
        self, real: LabelledImages, work: Path, settings: Settings, *, compute: bool, say: Callable[[str], None]
    ) -> None:
        self.real, self.work, self.settings, self.computes = real, work, settings, compute
        self._size = profile_named(settings.training.profile).size
        self.units = Units(work, self._pinned(), compute=compute, say=say)
        self._phantoms: dict[int, PhantomBatch] = {}

    def _pinned(self) -> dict[str, Any]:
        """What the figures depend on: settings, base, simulator."""
        probe = simulate(2, seed=PHANTOM_SEED, size=self._size)
        return {
            "settings": asdict(self.settings),
            "base": load_base(self.settings.training.profile)[1],
            "phantoms": hashlib.sha256(probe.images.tobytes()).hexdigest(),
        }

    def test_rows(self, fold: int) -> NDArray[np.intp]:
        """Rows of the fold that is tested on."""
        return np.flatnonzero(self.real.folds == fold)

    def phantoms(self, seed: int) -> PhantomBatch:
        """The phantoms behind every synthetic set of a seed."""
        if seed not in self._phantoms:
            self._phantoms = {seed: simulate(self.settings.images, seed=PHANTOM_SEED + seed, size=self._size)}
        return self._phantoms[seed]

    def model(self, fold: int, arm: str) -> ConditionedUNet:
        """The base with the adapter that never saw the fold."""

        def make(path: Path) -> None:
            patients = patients_of(self.real.take(self.real.folds != fold))
            epsilon, training = EPSILON[arm], self.settings.training
            plain = epsilon is None
            write_tensors(
                path,
                plain_adapter(patients, training, fold) if plain else private_adapter(patients, training, epsilon or 0),
            )

        path = self.units.file(f"adapter-{arm}-fold{fold}.safetensors", make)
        model, _ = load_base(self.settings.training.profile)
        load_adapter(model, read_tensors(path), self.settings.training.trained)
        return model

    def synthetic(self, fold: int, arm: str, seed: int) -> tuple[NDArray[np.float32], PhantomBatch]:
        """Pictures of an arm, in 8 bits as a release has them, and the phantoms that give class, box and mask."""
        phantoms = self.phantoms(seed)
        if arm == PHANTOM_ONLY:
            return eight_bits(phantoms.images).astype(np.float32) / 255, phantoms

        def make(path: Path) -> None:
            refined = refine(
                self.model(fold, arm),
                phantoms.images,
                phantoms.masks,
                Condition.of(phantoms.labels, None, phantoms.boxes),
                seed=PHANTOM_SEED + seed,
                start_time=self.settings.start_time,
                steps=self.settings.sampler_steps,
            )
            write_tensors(path, {"images": torch.from_numpy(eight_bits(refined.images))})

        path = self.units.file(f"set-{arm}-fold{fold}-seed{seed}.safetensors", make)
        return read_tensors(path)["images"].numpy().astype(np.float32) / 255, phantoms

    def scores(self, fold: int, arm: str, seed: int) -> Array | None:
        """Scores of the fold's pictures by the small CNN trained on an arm."""
        if arm == PHANTOM_ONLY:  # it has seen no fold: one classifier tests all of them
            unit = self.units.get(f"scores-{arm}-seed{seed}", lambda: self._score(None, arm, seed))
            return None if unit is None else np.asarray(unit["scores"])[self.test_rows(fold)]
        unit = self.units.get(f"scores-{arm}-fold{fold}-seed{seed}", lambda: self._score(fold, arm, seed))
        return None if unit is None else np.asarray(unit["scores"])

    def _score(self, fold: int | None, arm: str, seed: int) -> dict[str, Any]:
        images, labels = self._training_set(-1 if fold is None else fold, arm, seed)
        network = fit(images, labels, steps=self.settings.classifier_steps, seed=seed)
        tested = self.real.images if fold is None else self.real.images[self.test_rows(fold)]
        return {"scores": network.predict(tested).tolist(), "trained_on": len(images)}

    def _training_set(self, fold: int, arm: str, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        parts: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
        if arm in WITH_REAL:
            rows = self.real.folds != fold
            if arm.startswith("real50"):
                rows &= np.isin(self.real.patients, self._few(fold, seed))
            parts.append((self.real.images[rows], self.real.labels[rows]))
        if arm not in ("real_only", "real50"):
            images, phantoms = self.synthetic(fold, BESIDE_REAL if arm in WITH_REAL else arm, seed)
            parts.append((images, phantoms.labels))
        return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])

    def _few(self, fold: int, seed: int) -> NDArray[np.str_]:
        """The few patients of a fold and seed; both arms that use them have the same."""
        known = np.unique(self.real.patients[self.real.folds != fold])
        return np.random.default_rng((fold, seed)).choice(known, self.settings.few, replace=False)

    def denoising(self, fold: int, arm: str) -> float | None:
        """Mean denoising loss of the fold's pictures, times and noise fixed; ``phantom_only`` is the base itself."""
        unit = self.units.get(f"denoising-{arm}-fold{fold}", lambda: {"loss": self._denoising(fold, arm)})
        return None if unit is None else float(unit["loss"])

    def _denoising(self, fold: int, arm: str) -> float:
        model = load_base(self.settings.training.profile)[0] if arm == PHANTOM_ONLY else self.model(fold, arm)
        return held_out_loss(model, self.real.take(self.test_rows(fold)), fold)

    def crop_scores(self, fold: int, arm: str) -> Array | None:
        """Scores of the fold's lesion crops by logistic regression on frozen features of an arm's crops, seed 0."""
        unit = self.units.get(f"crop-{arm}-fold{fold}", lambda: {"scores": self._crop_scores(fold, arm).tolist()})
        return None if unit is None else np.asarray(unit["scores"])

    def _crop_scores(self, fold: int, arm: str) -> Array:
        real = self._real_crop_features()
        if arm == "real_only":
            rows = self.real.folds != fold
            probe = fit_probe(real[rows], self.real.labels[rows])
        else:
            images, phantoms = self.synthetic(fold, arm, 0)
            probe = fit_probe(features.pooled(crops(images, phantoms.boxes)), phantoms.labels)
        return probe.predict(real[self.test_rows(fold)])

    def _real_crop_features(self) -> NDArray[np.float32]:

        def make(path: Path) -> None:
            found = features.pooled(crops(self.real.images, self.real.boxes))
            write_tensors(path, {"features": torch.from_numpy(found)})

        path = self.units.file("real-crop-features.safetensors", make)
        return read_tensors(path)["features"].numpy()


@torch.no_grad()
def held_out_loss(model: ConditionedUNet, held_out: LabelledImages, seed: int) -> float:
    """Mean denoising loss of pictures under their classes and boxes, at times and with noise that the seed fixes."""
    loss = loss_of(model)
    generator, losses = torch.Generator().manual_seed(seed), []
    for part in np.array_split(np.arange(len(held_out)), -(-len(held_out) // BATCH)):
        some = held_out.take(part)
        condition = Condition.of(some.labels, None, some.boxes)
        images = torch.from_numpy(some.images)[:, None]
        batch = {
            "images": images,
            "masks": torch.from_numpy(some.masks).float()[:, None],
            "labels": condition.labels,
            "scanners": condition.scanners,
            "boxes": condition.boxes,
            "t": stratified_times(len(part), generator),
            "noise": torch.randn(images.shape, generator=generator),
        }
        losses.append(loss(batch))
    return float(torch.cat(losses).double().mean())


def eight_bits(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(images * 255).astype(np.uint8)
