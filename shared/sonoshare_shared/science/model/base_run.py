"""One training run of a base model in memory: network, averaged network, optimiser, step.

All of it is on one device. A step reads nothing back from the device, so that a GPU never waits for the host: losses
stay there until somebody asks. On a GPU tensors are laid out channels-last (on the CPU that crashed in some shapes).

Reproducible: a step is a function of the state before it, the settings and the data (`base_batches`). On a CPU of the
same kind, with as many threads, an interrupted run equals an uninterrupted one bit by bit; elsewhere sums differ in
their last bits. Not promised: that a GPU gives the same bits twice (some of its kernels add in another order).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.device import CPU, device_words
from sonoshare_shared.science.model.base import NOT_STATED, base_origin
from sonoshare_shared.science.model.base_batches import TrainingBatch, TrainingSet, training_batch
from sonoshare_shared.science.model.base_checkpoint import Checkpoint
from sonoshare_shared.science.model.base_pictures import CLASSES, SIMULATED_SCANNER_SLOT
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.phantom_cache import simulate_set
from sonoshare_shared.science.model.profiles import Profile
from sonoshare_shared.science.model.recipe import TrainSettings, continues, kept_at, rate_at
from sonoshare_shared.science.model.tensors import State, read_metadata, require_same_layout, write_tensors
from sonoshare_shared.science.phantom import SCANNER_STYLES
from sonoshare_shared.science.precision import FLOAT32, forward_in

Objective = Callable[[ConditionedUNet, Tensor, Tensor | None, Condition, Tensor, Tensor], Tensor]
"""Of model, images, masks, condition, times and noise, one value per image: `denoising_loss`, or another to compare."""
VALIDATION_PHANTOMS: Final = 96
_VALIDATED_AT_ONCE: Final = 32
_VALIDATION_SEED_OFFSET: Final = 1


@dataclass(frozen=True)
class Progress:
    """Where a run stands; losses are per image, without unit.

    Args:
        step: steps done.
        seconds: wall time spent training, over all resumptions.
        loss: mean training loss since the last report; None where no step was taken.
        validation: loss of the averaged model on phantoms that are not in the training set.
        images_per_second: since this process began to train.
        devices: where the run has been, in order, each device and precision with its number of steps.
    """

    step: int
    seconds: float
    loss: float | None
    validation: float
    images_per_second: float
    devices: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """Weights that a run begins with instead of random ones.

    Args:
        state: of the network, float32.
        digest: sha256 of the base file they are from.
        data: what that file says it was trained on: whoever begins with it has learned from that too.
    """

    state: State
    digest: str
    data: Any = NOT_STATED


class BaseTraining:
    """A run in memory.

    Args:
        profile: the architecture.
        settings: the run.
        data: what it learns from; moved to the device.
        sources: of the public pictures in it, as JSON (`public_images.described`).
        device: where it computes.
        precision: in which arithmetic its forward passes compute; the caller sets the process's own (`computing_in`).
        start: weights to begin with; None: random ones, by the seed.
        objective: what is minimised; a checkpoint does not know it.
    """

    def __init__(
        self,
        profile: Profile,
        settings: TrainSettings,
        data: TrainingSet,
        *,
        sources: Sequence[Mapping[str, Any]] = (),
        device: torch.device = CPU,
        precision: Precision = FLOAT32,
        start: Start | None = None,
        objective: Objective = denoising_loss,
    ) -> None:
        self.profile, self.settings = profile, settings.checked()
        self.data, self.device, self.precision = data.to(device), device, precision
        self.step, self.seconds = 0, 0.0
        self.devices: dict[str, int] = {}
        self._where = f"{device_words(device)}, {precision}"
        self._sources, self._start = [dict(source) for source in sources], start
        self._objective = objective
        self.model = _built(profile, settings.seed, start).to(device)
        if device != CPU:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch declares no overload
        self._parameters = dict(self.model.named_parameters())
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._optimiser = adamw(self._parameters.values(), settings.learning_rate)
        self._held_out: TrainingBatch | None = None

    def advance(self) -> Tensor:
        """Take one step; returns the batch's mean loss, float32 [], on the device."""
        settings = self.settings
        batch = training_batch(self.data, settings, self.step)
        self.step += 1
        for group in self._optimiser.param_groups:
            group["lr"] = rate_at(settings, self.step)
        loss = self._losses(self.model, batch).mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call] # torch gives it no types
        nn.utils.clip_grad_norm_(self._parameters.values(), settings.clip_norm)
        self._optimiser.step()
        average = get_ema_multi_avg_fn(kept_at(settings, self.step))  # type: ignore[no-untyped-call]
        average(list(self._average.values()), [p.detach() for p in self._parameters.values()], None)
        self.devices[self._where] = self.devices.get(self._where, 0) + 1
        return loss.detach()

    def averaged(self) -> State:
        """The averaged weights as they ship, float32 on the CPU: unused slots equal to "absent"."""
        state = {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in self._average.items()}
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
        if self._held_out is None:
            settings = TrainSettings(
                seed=self.settings.seed + _VALIDATION_SEED_OFFSET, batch_size=VALIDATION_PHANTOMS, drop=0.0
            )
            phantoms = simulate_set(VALIDATION_PHANTOMS, seed=settings.seed, size=self.profile.size)
            self._held_out = training_batch(TrainingSet(phantoms), settings, 0)
        model = ConditionedUNet(self.profile).to(self.device)
        model.load_state_dict(self.averaged())
        losses = [
            self._losses(model, _part(self._held_out, slice(first, first + _VALIDATED_AT_ONCE), self.device))
            for first in range(0, VALIDATION_PHANTOMS, _VALIDATED_AT_ONCE)
        ]
        return float(torch.cat(losses).mean())

    def _losses(self, model: ConditionedUNet, batch: TrainingBatch) -> Tensor:
        with forward_in(self.precision, self.device):
            return self._objective(model, batch.images, batch.masks, batch.condition, batch.t, batch.noise)

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

    def require_own(self, path: Path) -> None:
        """Refuse a base file that another run has written: it would be lost.

        Raises:
            InputError: its header names another profile, other settings (but for the length) or other data.
            ModelError: not a safetensors file.
        """
        said, own = base_origin(path), replace(self.settings, length=None)
        settings = said.get("settings")
        known = isinstance(settings, dict) and settings | {"length": None} == asdict(own)
        same_data = _told(said.get("data")) == _told(json.loads(json.dumps(self._said())))
        if not known or not same_data or read_metadata(path).get("architecture") != self.profile.digest:
            raise InputError(f"{path.name} exists and is of another run", remedy="give the name of a new file")

    def checkpoint(self) -> Checkpoint:
        """All that the run needs to go on, on the CPU."""
        tensors: State = {f"weight/{name}": p for name, p in self._parameters.items()}
        tensors |= {f"average/{name}": tensor for name, tensor in self._average.items()}
        for name, parameter in self._parameters.items():
            moments = self._optimiser.state.get(parameter, {})
            tensors[f"first/{name}"] = moments.get("exp_avg", torch.zeros_like(parameter))
            tensors[f"second/{name}"] = moments.get("exp_avg_sq", torch.zeros_like(parameter))
        run = self._identity() | {"step": self.step, "seconds": self.seconds, "devices": self.devices}
        return Checkpoint({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, run)

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            ModelError: it belongs to another profile, other settings or other data.
        """
        run, wanted = dict(checkpoint.run), self._identity()
        step = int(run.get("step", 0))
        stored = dict(run.get("settings", {}))
        known = stored.keys() == asdict(self.settings).keys()
        if not known or any(run.get(name) != value for name, value in wanted.items() if name != "settings"):
            raise ModelError("the checkpoint belongs to another run", remedy="give another work folder")
        if not continues(self.settings, TrainSettings(**stored), step):
            raise ModelError(
                "the checkpoint belongs to another run, or its rate has begun to fall",
                remedy="give the settings that it was begun with, or another work folder",
            )
        self._take(checkpoint.tensors, step)
        self.step, self.seconds = step, float(run["seconds"])
        self.devices = dict(run["devices"])

    def _take(self, tensors: State, step: int) -> None:
        """Put a checkpoint's tensors in place; each keeps the memory layout of the parameter that it belongs to."""
        require_same_layout(tensors, {f"{kind}/{name}": p for kind in _KINDS for name, p in self._parameters.items()})
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[f"weight/{name}"])
            self._average[name].copy_(tensors[f"average/{name}"])
            self._optimiser.state[parameter] = {
                "step": torch.tensor(float(step), device=self.device),
                "exp_avg": torch.empty_like(parameter).copy_(tensors[f"first/{name}"]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(tensors[f"second/{name}"]),
            }

    def _origin(self) -> str:
        said = self._said()
        return said if isinstance(said, str) else json.dumps(said)

    def _said(self) -> str | dict[str, Any]:
        if not self._sources and self._start is None:
            return "simulated phantoms only"
        said: dict[str, Any] = {"phantoms": len(self.data.phantoms), "sources": self._sources}
        if self._start is not None:
            said["began_with"] = {"base": self._start.digest, "data": self._start.data}
        return said

    def _identity(self) -> dict[str, Any]:
        return {
            "profile": self.profile.digest,
            "settings": asdict(self.settings),
            "data": self._sources,
            "start": None if self._start is None else self._start.digest,
        }


_KINDS: Final = ("weight", "average", "first", "second")


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """The optimiser of the recipe."""
    return torch.optim.AdamW(parameters, learning_rate, weight_decay=0.0, betas=(0.9, 0.99), fused=True)


def _built(profile: Profile, seed: int, start: Start | None) -> ConditionedUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ConditionedUNet(profile)
    if start is not None:
        require_same_layout(start.state, dict(model.state_dict()))
        model.load_state_dict(start.state)
    return model


def _told(data: Any) -> Any:
    """What a header says of its data, without how many phantoms there were: a CPU rounds that, a GPU does not."""
    return {name: value for name, value in data.items() if name != "phantoms"} if isinstance(data, dict) else data


def _part(batch: TrainingBatch, rows: slice, device: torch.device) -> TrainingBatch:
    return TrainingBatch(
        batch.images[rows].to(device),
        batch.masks[rows].to(device),
        batch.condition[rows].to(device),
        batch.t[rows].to(device),
        batch.noise[rows].to(device),
    )
