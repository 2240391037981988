"""Training a base model on simulated phantoms, and on public pictures where there are any: nothing is charged.

Reproducible: everything random at step k comes from a generator seeded by (seed, k), and neither learning rate nor
averaging depends on how long the run will be. A run for some seconds that ended at step n equals a run of n steps,
and an interrupted run equals an uninterrupted one (same machine and thread count: float32 sums may differ else).
So the averaged weights are usable at any checkpoint.

Recipe: AdamW; learning rate warmed up, then falling as 1/sqrt(step); power-function weight averaging (Karras et al.
2024, section 3.1, sigma_rel 0.1); stratified times; mirroring and grey-value jitter; each condition absent in 10 % of
the rows, independently. The simulator's scanner styles use the upper scanner slots; slots no phantom used are left
equal to "absent", so that a study's classes and scanners start neutral.
"""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sonoshare_shared.durable import append_line
from sonoshare_shared.errors import ModelError
from sonoshare_shared.science.model.base_pictures import (
    CLASSES,
    SIMULATED_SCANNER_SLOT,
    BasePictures,
    TrainSettings,
    joined,
    training_batch,
)
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.phantom_cache import cached_phantoms, simulate_set
from sonoshare_shared.science.model.profiles import Profile
from sonoshare_shared.science.model.public_images import PublicImages
from sonoshare_shared.science.model.tensors import State, read_metadata, read_tensors, write_tensors
from sonoshare_shared.science.phantom import SCANNER_STYLES

Objective = Callable[[ConditionedUNet, Tensor, Tensor | None, Condition, Tensor, Tensor], Tensor]
"""Of model, images, masks, condition, times and noise, one value per image: `denoising_loss`, or another to compare."""
_AVERAGING_EXPONENT = 6.94  # sigma_rel = 0.1
_VALIDATION_PHANTOMS = 96
_VALIDATION_SEED_OFFSET = 1


@dataclass(frozen=True)
class Progress:
    """Where a run stands; losses are per image, without unit.

    Args:
        step: steps done.
        seconds: wall time spent training, over all resumptions.
        loss: mean training loss since the last report; None where no step was taken.
        validation: loss of the averaged model on phantoms that are not in the training set.
        images_per_second: since this process began to train.
    """

    step: int
    seconds: float
    loss: float | None
    validation: float
    images_per_second: float


def checkpoint_path(work: Path, profile: Profile) -> Path:
    """Where a training in a work folder keeps what it goes on from."""
    return work / f"base-{profile.name}.checkpoint.safetensors"


def train_base(
    profile: Profile,
    settings: TrainSettings,
    *,
    out: Path,
    work: Path,
    data: PublicImages | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    checkpoint_seconds: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    report: Callable[[Progress], None] | None = None,
    simulated: Callable[[int, int], None] | None = None,
) -> Progress:
    """Train, or go on training, a base model.

    Args:
        profile: the architecture.
        settings: the run; must be those of the run being resumed.
        out: base weights are written here at every checkpoint (float16, averaged).
        work: folder of the phantom cache, the checkpoint and ``log.jsonl``.
        data: public pictures to train on beside the phantoms.
        seconds: wall time to train for in all, resumptions included; or
        steps: steps to take in all.
        checkpoint_seconds: between checkpoints.
        clock: seconds, monotonic.
        report: called at every checkpoint.
        simulated: called while phantoms are simulated, with (ready, wanted).

    Returns:
        Where the run ended.

    Raises:
        ModelError: the checkpoint in ``work`` belongs to another run.
    """
    phantoms = cached_phantoms(
        work / "phantoms", count=settings.phantoms, seed=settings.seed, size=profile.size, progress=simulated
    )
    run = BaseTraining(profile, settings, phantoms, data)
    checkpoint = checkpoint_path(work, profile)
    if checkpoint.exists():
        run.restore(checkpoint)
    begin, last, taken = clock() - run.seconds, clock(), 0
    first_step, first_clock = run.step, clock()
    losses: list[float] = []
    progress: Progress | None = None
    while True:
        run.seconds = clock() - begin
        over = (seconds is not None and run.seconds >= seconds) or (steps is not None and run.step >= steps)
        if (over or clock() - last >= checkpoint_seconds) and taken:
            speed = (run.step - first_step) * settings.batch_size / max(clock() - first_clock, 1e-9)
            progress = Progress(run.step, run.seconds, sum(losses) / len(losses), run.validate(), speed)
            run.save(checkpoint)
            _log(work / "log.jsonl", progress)
            run.write_base(out, progress)
            if report is not None:
                report(progress)
            losses, last = [], clock()
        if over:
            break
        losses.append(run.advance())
        taken += 1
    if progress is None:  # the run was over before: write again what it made
        progress = Progress(run.step, run.seconds, None, run.validate(), 0.0)
        run.write_base(out, progress)
    return progress


class BaseTraining:
    """A run in memory: network, averaged network, optimiser, step.

    Args:
        profile: the architecture.
        settings: the run.
        phantoms: the simulated training set.
        data: public pictures beside it.
        objective: what is minimised; a checkpoint does not know it.
    """

    def __init__(
        self,
        profile: Profile,
        settings: TrainSettings,
        phantoms: BasePictures,
        data: PublicImages | None = None,
        *,
        objective: Objective = denoising_loss,
    ) -> None:
        self.profile = profile
        self.settings = settings
        self.pictures = phantoms if data is None else joined([phantoms, data.pictures])
        self._data = data
        self._objective = objective
        self.step = 0
        self.seconds = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = ConditionedUNet(profile)
        self._parameters = dict(self.model.named_parameters())
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._optimiser = adamw(self._parameters.values(), settings.learning_rate)
        self._validation: tuple[BasePictures, TrainSettings] | None = None

    def advance(self) -> float:
        """Take one step; returns the batch's mean loss."""
        settings = self.settings
        batch = training_batch(self.pictures, settings, self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate()
        loss = self._objective(self.model, batch.images, batch.masks, batch.condition, batch.t, batch.noise).mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters.values(), settings.clip_norm)
        self._optimiser.step()
        self.step += 1
        keep = (1 - 1 / self.step) ** (_AVERAGING_EXPONENT + 1)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                self._average[name].lerp_(parameter, 1 - keep)
        return float(loss.detach())

    def averaged(self) -> State:
        """The averaged weights as they ship: unused slots equal to "absent"."""
        state = {name: tensor.clone() for name, tensor in self._average.items()}
        classes = state["class_embedding.weight"]
        classes[len(CLASSES) : -1] = classes[-1]
        scanners = state["scanner_embedding.weight"]
        used = range(SIMULATED_SCANNER_SLOT, SIMULATED_SCANNER_SLOT + len(SCANNER_STYLES))
        for slot in set(range(len(scanners) - 1)) - set(used):
            scanners[slot] = scanners[-1]
        return state

    @torch.no_grad()
    def validate(self) -> float:
        """Loss of the averaged model on held-out phantoms, at fixed times and noise."""
        if self._validation is None:
            settings = TrainSettings(
                seed=self.settings.seed + _VALIDATION_SEED_OFFSET, batch_size=_VALIDATION_PHANTOMS, drop=0.0
            )
            held_out = simulate_set(_VALIDATION_PHANTOMS, seed=settings.seed, size=self.profile.size)
            self._validation = held_out, settings
        held_out, settings = self._validation
        model = ConditionedUNet(self.profile)
        model.load_state_dict(self.averaged())
        batch = training_batch(held_out, settings, 0)
        loss = self._objective(model, batch.images, batch.masks, batch.condition, batch.t, batch.noise)
        return float(loss.mean())

    def write_base(self, path: Path, progress: Progress) -> None:
        """Write base weights (averaged, float16) with what is known about them in the header."""
        about = {
            "profile": self.profile.name,
            "architecture": self.profile.digest,
            "data": self._origin(),
            "settings": json.dumps(asdict(self.settings)),
            "progress": json.dumps(asdict(progress)),
        }
        write_tensors(path, {name: tensor.half() for name, tensor in self.averaged().items()}, about)

    def save(self, path: Path) -> None:
        """Write all that the run needs to go on, in one file, whole or not at all."""
        tensors = {f"weight/{name}": p.detach() for name, p in self._parameters.items()}
        tensors |= {f"average/{name}": tensor for name, tensor in self._average.items()}
        for name, parameter in self._parameters.items():
            moments = self._optimiser.state[parameter]
            tensors[f"first/{name}"] = moments["exp_avg"]
            tensors[f"second/{name}"] = moments["exp_avg_sq"]
        write_tensors(
            path, tensors, {"run": json.dumps(self._identity() | {"step": self.step, "seconds": self.seconds})}
        )

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ModelError: it belongs to another profile or other settings.
        """
        stored = json.loads(read_metadata(path).get("run", "{}"))
        if any(stored.get(name) != value for name, value in self._identity().items()):
            raise ModelError("the checkpoint belongs to another run", remedy="give another work folder")
        tensors = read_tensors(path)
        self.step, self.seconds = int(stored["step"]), float(stored["seconds"])
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"weight/{name}"])
                self._average[name].copy_(tensors[f"average/{name}"])
                self._optimiser.state[parameter] = {
                    "step": torch.tensor(float(self.step)),
                    "exp_avg": tensors[f"first/{name}"],
                    "exp_avg_sq": tensors[f"second/{name}"],
                }

    def _origin(self) -> str:
        if self._data is None:
            return "simulated phantoms only"
        phantoms = len(self.pictures) - len(self._data.pictures)
        return json.dumps(
            {
                "phantoms": phantoms,
                "public_images": len(self._data.pictures),
                "public_patients": self._data.patients,
                "public_sha256": self._data.digest,
            }
        )

    def _identity(self) -> dict[str, object]:
        data = None if self._data is None else self._data.digest
        return {"profile": self.profile.digest, "settings": asdict(self.settings), "data": data}

    def _learning_rate(self) -> float:
        settings, step = self.settings, self.step + 1
        falling = 1 / math.sqrt(max(step / settings.reference_step, 1.0))
        return settings.learning_rate * min(step / settings.warm_up, 1.0) * falling


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """The optimiser of the recipe."""
    return torch.optim.AdamW(parameters, learning_rate, weight_decay=0.0, betas=(0.9, 0.99), fused=True)


def _log(path: Path, progress: Progress) -> None:
    append_line(path, json.dumps(asdict(progress)).encode())
