"""The units of work of the utility benchmark, each kept in the work folder and left out when it is there.

Folds are the official, patient-disjoint ones: what is tested on fold f was trained on the patients of the other folds.
A unit is one adapter (fold, arm), one synthetic set (fold, arm, seed) or one classifier's scores (fold, arm, seed).
The base, the simulator, the ballot and the settings of a folder are pinned: another version is refused.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._utility_adapters import Training, federated_adapter, patients_of, plain_adapter, private_adapter
from benchmarks._utility_votes import Voting, voted
from sonoshare_client.agent.draws import loss_of
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.charge import PureDP
from sonoshare_shared.protocol.documents.plan import LAST_TIME
from sonoshare_shared.science.calibration.ballot import Ballot
from sonoshare_shared.science.calibration.choice import calibrated_phantoms, chances_of, shares_of
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.evaluation.classifier import RECIPE, Classifier, fit, fit_probe
from sonoshare_shared.science.evaluation.described import crops
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.levels import eight_bits, fractions
from sonoshare_shared.science.model.adapter import load_adapter
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.diffusion import stratified_times
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import profile_named
from sonoshare_shared.science.model.sampler import SamplerSettings, refine
from sonoshare_shared.science.model.tensors import read_tensors, write_tensors
from sonoshare_shared.science.phantom import PhantomBatch, simulate
from sonoshare_shared.science.tasks.files import read_task

Array = NDArray[np.float64]

PHANTOM_ONLY: Final = "phantom_only"
VOTING: Final = {
    "calibrated": Voting(),
    "calibrated_as_voted": Voting(sharpness=0.0),
    "calibrated_four": Voting(by_device=True),
    "calibrated_dp_eps8": Voting(refined=True),
}
EPSILON: Final = {
    "nonprivate": None,
    "dp_eps8": 8.0,
    "dp_eps8_four": 8.0,
    "dp_eps3": 3.0,
    "calibrated_dp_eps8": 8.0,
}
"""Of the training of a model, composed with the arm's votes if it has any."""
FEDERATED: Final = ("dp_eps8_four",)  # one hospital for each device
SMALLEST_HOSPITAL: Final = 11
"""Patients; with fewer no plan could be made, because delta = 1 / (10 N) must be below .01."""
ADAPTED: Final = tuple(EPSILON)
SYNTHETIC: Final = (PHANTOM_ONLY, *dict.fromkeys((*VOTING, *ADAPTED)))
BESIDE_REAL: Final = {
    "real_only": None,
    "real_plus_calibrated": "calibrated",
    "real50": None,
    "real50_plus_phantoms": PHANTOM_ONLY,
    "real50_plus_calibrated": "calibrated",
}
"""The synthetic set that joins real images."""
BEFORE_REAL: Final = {
    "calibrated_then_real50": "calibrated",
    "phantoms_then_real50": PHANTOM_ONLY,
    "real50_then_real50": "real50",
    "calibrated_then_real": "calibrated",
    "phantoms_then_real": PHANTOM_ONLY,
    "real_then_real": "real_only",
}
"""The set that a classifier is trained on before it is trained on real images, with as many steps."""
WITH_REAL: Final = (*BESIDE_REAL, *BEFORE_REAL)
ARMS: Final = (*SYNTHETIC, *WITH_REAL)
PHANTOM_SEED: Final = 500
TASK: Final = read_task("diagnosis")
BATCH: Final = 64


@dataclass(frozen=True)
class Made:
    """A synthetic set, in 8 bits as a release has it, and what is known about each picture.

    Attributes:
        images: float32 [n, S, S] in 0..1.
        labels: int64 [n].
        boxes: float32 [n, 4], fractions.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """What fixes the figures.

    Attributes:
        images: of each synthetic set, classes taking turns.
        sampler_steps: of refining.
        start_time: how far a phantom is noised, of 1000.
        classifier_steps: of the small CNN on each set; None for those of the rule.
        few: patients of the arms ``real50``.
        training: of the adapters.
    """

    images: int = 1000
    sampler_steps: int = 8
    start_time: int = SamplerSettings.start_time
    classifier_steps: int | None = None
    few: int = 50
    training: Training = field(default_factory=Training)


class Bench:
    """Real images, settings and a work folder.

    Args:
        real: BUS-BRA, or any set with folds.
        work: made if absent.
        settings: must be those of the folder's earlier runs.
        ballot: what patients vote on.
        compute: False only reads what is there.
        say: told about each unit as it is made.
        device: where classifiers are trained and features computed.
    """

    def __init__(
        self,
        real: LabelledImages,
        work: Path,
        settings: Settings,
        ballot: Ballot,
        *,
        compute: bool,
        say: Callable[[str], None],
        device: torch.device = CPU,
    ) -> None:
        self.device = device
        self.real, self.work, self.settings, self.ballot, self.computes = real, work, settings, ballot, compute
        self._size = profile_named(settings.training.profile).size
        self.units = Units(work, self._pinned(), compute=compute, say=say)
        self._phantoms: dict[int, PhantomBatch] = {}

    def _pinned(self) -> dict[str, Any]:
        """What the figures depend on: settings, base, simulator, ballot, and how arms vote."""
        probe = simulate(2, seed=PHANTOM_SEED, size=self._size)
        return {
            "settings": asdict(self.settings),
            "classifier": asdict(RECIPE),
            "base": load_base(self.settings.training.profile)[1],
            "phantoms": hashlib.sha256(probe.images.tobytes()).hexdigest(),
            "ballot": self.ballot.digest(),
            "voting": {arm: asdict(voting) for arm, voting in VOTING.items()},
        }

    def test_rows(self, fold: int) -> NDArray[np.intp]:
        """Rows of the fold that is tested on."""
        return np.flatnonzero(self.real.folds == fold)

    def phantoms(self, fold: int, arm: str, seed: int) -> PhantomBatch:
        """The phantoms behind a synthetic set: by the votes of the other folds' patients, or by the priors."""
        if arm in VOTING:
            votes = self.units.get(f"votes-{arm}-fold{fold}", lambda: {"votes": self._votes(fold, arm).tolist()})
            if votes is None:
                raise InputError("no votes in the work folder", remedy="run without --report first")
            shares = shares_of(self.ballot, np.asarray(votes["votes"], dtype=np.int64))
            count, first = self.settings.images, PHANTOM_SEED + seed
            chances = chances_of(self.ballot, shares, VOTING[arm].sharpness)
            return calibrated_phantoms(self.ballot, chances, TASK, count, seed=first)
        if seed not in self._phantoms:
            self._phantoms = {seed: simulate(self.settings.images, seed=PHANTOM_SEED + seed, size=self._size)}
        return self._phantoms[seed]

    def _votes(self, fold: int, arm: str) -> NDArray[np.int64]:
        rows = self.real.folds != fold
        return voted(self._options()[rows], self.real.take(rows), self.ballot, VOTING[arm])

    def _options(self) -> NDArray[np.int64]:
        """What each picture would vote for."""

        def make(path: Path) -> None:
            options = self.ballot.chosen(self.real.images, self.real.labels, self.real.boxes)
            write_tensors(path, {"options": torch.from_numpy(options)})

        return read_tensors(self.units.file("options.safetensors", make))["options"].numpy()

    def model(self, fold: int, arm: str) -> ConditionedUNet:
        """The base with the adapter that never saw the fold."""

        def make(path: Path) -> None:
            known = self.real.take(self.real.folds != fold)
            epsilon, training = EPSILON[arm], self.settings.training
            voting = VOTING.get(arm)
            votes = () if voting is None or voting.epsilon is None else (PureDP(voting.epsilon),)
            if epsilon is None:
                write_tensors(path, plain_adapter(patients_of(known), training, fold))
            elif arm in FEDERATED:
                hospitals = [patients_of(known.take(known.devices == device)) for device in np.unique(known.devices)]
                taking_part = [each for each in hospitals if len(each) >= SMALLEST_HOSPITAL]
                write_tensors(path, federated_adapter(taking_part, training, epsilon))
            else:
                write_tensors(path, private_adapter(patients_of(known), training, epsilon, votes))

        path = self.units.file(f"adapter-{arm}-fold{fold}.safetensors", make)
        model, _ = load_base(self.settings.training.profile)
        load_adapter(model, read_tensors(path), self.settings.training.trained)
        return model

    def synthetic(self, fold: int, arm: str, seed: int) -> Made:
        """The synthetic set of an arm."""
        if arm == PHANTOM_ONLY:
            phantoms = self.phantoms(fold, arm, seed)
            return Made(fractions(eight_bits(phantoms.images)), phantoms.labels, phantoms.boxes)

        def make(path: Path) -> None:
            phantoms = self.phantoms(fold, arm, seed)
            images = self._refined(phantoms, fold, arm, seed) if arm in ADAPTED else phantoms.images
            parts = {"images": eight_bits(images), "labels": phantoms.labels, "boxes": phantoms.boxes}
            write_tensors(path, {name: torch.from_numpy(part) for name, part in parts.items()})

        stored = read_tensors(self.units.file(f"set-{arm}-fold{fold}-seed{seed}.safetensors", make))
        images = fractions(stored["images"].numpy())
        return Made(images, stored["labels"].numpy(), stored["boxes"].numpy())

    def _refined(self, phantoms: PhantomBatch, fold: int, arm: str, seed: int) -> NDArray[np.float32]:
        return refine(
            self.model(fold, arm),
            phantoms.images,
            phantoms.masks,
            Condition.of(phantoms.labels, None, phantoms.boxes),
            seed=PHANTOM_SEED + seed,
            start_time=self.settings.start_time,
            steps=self.settings.sampler_steps,
        ).images

    def scores(self, fold: int, arm: str, seed: int) -> Array | None:
        """Scores of the fold's pictures by the small CNN trained on an arm."""
        if arm == PHANTOM_ONLY:  # it has seen no fold: one classifier tests all of them
            unit = self.units.get(f"scores-{arm}-seed{seed}", lambda: self._score(None, arm, seed))
            return None if unit is None else np.asarray(unit["scores"])[self.test_rows(fold)]
        unit = self.units.get(f"scores-{arm}-fold{fold}-seed{seed}", lambda: self._score(fold, arm, seed))
        return None if unit is None else np.asarray(unit["scores"])

    def _score(self, fold: int | None, arm: str, seed: int) -> dict[str, Any]:
        network, tested = self.network(fold, arm, seed), self.real.images
        scores = network.predict(tested if fold is None else tested[self.test_rows(fold)])
        return {"scores": scores.tolist(), "trained_on": len(self._training_set(fold, arm, seed)[1])}

    def network(self, fold: int | None, arm: str, seed: int) -> Classifier:
        """The small CNN of an arm, trained if need be; ``phantom_only`` has one for all folds (None)."""

        def make(path: Path) -> None:
            before = BEFORE_REAL.get(arm)
            start = None if before is None else self.network(None if before == PHANTOM_ONLY else fold, before, seed)
            images, labels = self._training_set(fold, arm, seed)
            steps = self.settings.classifier_steps
            trained = fit(images, labels, steps=steps, seed=seed, start=start, device=self.device)
            write_tensors(path, trained.state())

        where = "" if fold is None else f"-fold{fold}"
        return Classifier.of(read_tensors(self.units.file(f"network-{arm}{where}-seed{seed}.safetensors", make)))

    def _training_set(self, fold: int | None, arm: str, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        fold = -1 if fold is None else fold  # of what no patient is in
        parts: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
        if arm in WITH_REAL:
            rows = self.real.folds != fold
            if "real50" in arm:
                rows &= np.isin(self.real.patients, self._few(fold, seed))
            parts.append((self.real.images[rows], self.real.labels[rows]))
        synthetic = BESIDE_REAL.get(arm) if arm in WITH_REAL else arm
        if synthetic is not None:
            made = self.synthetic(fold, synthetic, seed)
            parts.append((made.images, made.labels))
        return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])

    def _few(self, fold: int, seed: int) -> NDArray[np.str_]:
        """The few patients of a fold and seed; all arms that use them have the same."""
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
            made = self.synthetic(fold, arm, 0)
            probe = fit_probe(features.pooled(crops(made.images, made.boxes), self.device), made.labels)
        return probe.predict(real[self.test_rows(fold)])

    def _real_crop_features(self) -> NDArray[np.float32]:

        def make(path: Path) -> None:
            found = features.pooled(crops(self.real.images, self.real.boxes), self.device)
            write_tensors(path, {"features": torch.from_numpy(found)})

        path = self.units.file("real-crop-features.safetensors", make)
        return read_tensors(path)["features"].numpy()


def held_out_loss(model: ConditionedUNet, held_out: LabelledImages, seed: int) -> float:
    """Mean denoising loss of pictures under their classes and boxes, at times and with noise that the seed fixes."""
    return float(held_out_losses(model, held_out, seed).mean())


@torch.no_grad()
def held_out_losses(model: ConditionedUNet, held_out: LabelledImages, seed: int, latest_time: int = LAST_TIME) -> Array:
    """The denoising loss of each picture at one time of 0..latest_time."""
    loss, device = loss_of(model), next(model.parameters()).device
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
            "t": stratified_times(len(part), generator, latest_time),
            "noise": torch.randn(images.shape, generator=generator),
        }
        losses.append(loss({name: tensor.to(device) for name, tensor in batch.items()}))
    return np.asarray(torch.cat(losses).double().cpu().numpy())
