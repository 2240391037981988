"""Drawing images: from noise, or by refining phantoms. Both are DPM-Solver++ behind one function.

*From noise*: image, and the mask that the network sees in it. *From a phantom* (simulate, then refine): the
phantom is noised to ``start_time`` and denoised by the (adapted) model; class, box and mask stay exactly those
of the phantom, only texture and grey values change.

Promised: image i depends on the model, the settings, its own condition (and phantom), ``seed`` and
``start_index + i`` only, so shards can be made in any order and batch size; between batch sizes results agree
to float32 rounding (1e-5 in grey values), not bit by bit. Noise is made on the processor, image by image, whatever the
device: images of two devices differ by rounding too, of two precisions by more.

Guidance is per condition: v + sum over c of w_c (v - v without c); Ho and Salimans 2022, with one null each.
Solver: Lu et al. 2022, order 2, multistep, data prediction.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.plan import NOISE_TIME, Precision
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.diffusion import BETA_SCHEDULE, TIMES, add_noise, denormalise, normalise
from sonoshare_shared.science.model.network import ConditionedUNet, Output
from sonoshare_shared.science.precision import FLOAT32, computing_in, forward_in

NOISE = "noise"
PHANTOM = "phantom"
# Above this time the squared-cosine schedule has no signal left in float32 and the solver's log-SNR explodes.
LATEST_TIME = NOISE_TIME


@dataclass(frozen=True)
class Guidance:
    """Extra weight of each condition; 0 is the plain conditional model and costs nothing."""

    label: float = 0.0
    scanner: float = 0.0
    box: float = 0.0

    @property
    def active(self) -> tuple[tuple[str, float], ...]:
        """Conditions with weight, as (name for `Condition.without`, weight)."""
        named = (("class", self.label), ("scanner", self.scanner), ("box", self.box))
        return tuple((name, weight) for name, weight in named if weight)


@dataclass(frozen=True)
class SamplerSettings:
    """How images are drawn.

    Args:
        steps: network evaluations per image (times 1 + number of guided conditions).
        start: ``noise`` or ``phantom``.
        start_time: for ``phantom``, how far it is noised, 1..990 of 1000.
        guidance: per condition.
        batch_size: images per network evaluation.
        precision: in which the network computes; the solver's steps are float32 in each.
    """

    steps: int = 16
    start: str = NOISE
    start_time: int = 120
    guidance: Guidance = field(default_factory=Guidance)
    batch_size: int = 16
    precision: Precision = FLOAT32

    @property
    def times(self) -> list[int]:
        """The decreasing diffusion times at which the network is evaluated."""
        first = self.start_time if self.start == PHANTOM else LATEST_TIME
        return [round(first * (self.steps - i) / self.steps) for i in range(self.steps)]

    def checked(self) -> "SamplerSettings":
        """Return the settings themselves if they can be used.

        Raises:
            InputError: a value is out of range.
        """
        if self.start not in (NOISE, PHANTOM):
            raise InputError(f"unknown start {self.start[:40]!r}", remedy="use noise or phantom")
        if not 1 <= self.start_time <= LATEST_TIME:
            raise InputError(f"start time {self.start_time}", remedy=f"use 1 to {LATEST_TIME}")
        first = self.start_time if self.start == PHANTOM else LATEST_TIME
        if not 1 <= self.steps <= first:
            raise InputError(f"{self.steps} sampler steps", remedy=f"use 1 to {first}")
        if self.batch_size < 1:
            raise InputError(f"batch size {self.batch_size}", remedy="use 1 or more")
        return self


@dataclass(frozen=True)
class Samples:
    """Drawn images.

    Args:
        images: float32 [n, S, S], 0..1.
        masks: bool [n, S, S]: the phantoms' own, or the network's where it drew from noise.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.bool_]


@torch.no_grad()
def sample(
    model: ConditionedUNet,
    settings: SamplerSettings,
    condition: Condition,
    *,
    seed: int,
    start_index: int = 0,
    images: NDArray[np.float32] | None = None,
    masks: NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Draw one image per row of ``condition``.

    Args:
        model: the network, on any device.
        settings: how.
        condition: n rows.
        seed: of the whole set.
        start_index: index in the set of the first row.
        images: phantoms float32 [n, S, S] in 0..1, with ``start="phantom"`` and only then.
        masks: the phantoms' masks bool [n, S, S].
        progress: called with (done, n) after every batch.

    Raises:
        InputError: settings out of range; phantoms missing, superfluous or of another shape.
        ModelError: the condition does not fit the model.
    """
    settings.checked()
    condition.checked(model.profile)
    _require_phantoms(model.profile.size, settings, len(condition), images, masks)
    device = next(model.parameters()).device
    scheduler = _scheduler()
    drawn, drawn_masks = [], []
    for first in range(0, len(condition), settings.batch_size):
        rows = slice(first, min(first + settings.batch_size, len(condition)))
        noise = _noise(seed, range(start_index + rows.start, start_index + rows.stop), model.profile.size)
        base = None if images is None else torch.as_tensor(images[rows], dtype=torch.float32)[:, None].to(device)
        with computing_in(settings.precision):
            picture, mask = _denoise(model, settings, scheduler, condition[rows].to(device), noise.to(device), base)
        drawn.append(picture)
        drawn_masks.append(mask if masks is None else np.asarray(masks[rows], dtype=np.bool_))
        if progress is not None:
            progress(rows.stop, len(condition))
    size = model.profile.size
    empty = np.zeros((0, size, size))
    return Samples(
        images=np.concatenate([empty.astype(np.float32), *drawn]),
        masks=np.concatenate([empty.astype(np.bool_), *drawn_masks]),
    )


def refine(
    model: ConditionedUNet,
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    condition: Condition,
    *,
    seed: int,
    start_time: int = 120,
    steps: int = 8,
    start_index: int = 0,
) -> Samples:
    """Simulate, then refine: `sample` with ``start="phantom"``."""
    settings = SamplerSettings(steps=steps, start=PHANTOM, start_time=start_time)
    return sample(model, settings, condition, seed=seed, start_index=start_index, images=images, masks=masks)


def _require_phantoms(
    size: int,
    settings: SamplerSettings,
    count: int,
    images: NDArray[np.float32] | None,
    masks: NDArray[np.bool_] | None,
) -> None:
    if settings.start == NOISE:
        if images is not None or masks is not None:
            raise InputError("phantoms given to sampling from noise", remedy="use start=phantom")
        return
    if images is None or masks is None:
        raise InputError("refining needs phantoms and their masks", remedy="simulate them first")
    wanted = (count, size, size)
    if images.shape != wanted or masks.shape != wanted:
        shapes = f"{images.shape} and masks {masks.shape}"
        raise InputError(f"phantoms of shape {shapes} for {count} conditions", remedy=f"give {wanted}")


def _noise(seed: int, indices: range, size: int) -> Tensor:
    """Standard normal [n, 1, size, size]; each image has its own generator."""
    rows = []
    for index in indices:
        stream = hashlib.sha256(f"sonoshare sample {seed} {index}".encode()).digest()
        # manual_seed takes 64 bits, of which the sign bit stays clear.
        generator = torch.Generator().manual_seed(int.from_bytes(stream[:8]) >> 1)
        rows.append(torch.randn(1, size, size, generator=generator))
    return torch.stack(rows)


def _scheduler() -> Any:
    """The solver; ``set_timesteps`` makes it forget what it solved before."""
    return DPMSolverMultistepScheduler(
        TIMES, beta_schedule=BETA_SCHEDULE, prediction_type="v_prediction", algorithm_type="dpmsolver++"
    )


def _denoise(  # noqa: PLR0917 - private, and called in one place
    model: ConditionedUNet,
    settings: SamplerSettings,
    scheduler: Any,
    condition: Condition,
    noise: Tensor,
    phantoms: Tensor | None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    scheduler.set_timesteps(timesteps=settings.times)
    start = torch.full((len(noise),), settings.times[0], device=noise.device)
    # From noise the start is the noised mean image, which normalisation puts at 0.
    x = add_noise(torch.zeros_like(noise) if phantoms is None else normalise(phantoms), noise, start)
    logits = torch.zeros_like(noise)
    for time in settings.times:
        with forward_in(settings.precision, noise.device):
            output = _guided(model, settings.guidance, x, torch.full_like(start, time), condition)
        logits = output.mask_logits
        x = scheduler.step(output.v.float(), time, x, return_dict=False)[0]  # it answers in the velocity's type
    picture: NDArray[np.float32] = denormalise(x)[:, 0].float().cpu().numpy()
    mask: NDArray[np.bool_] = (logits[:, 0] > 0).cpu().numpy()
    return picture, mask


def _guided(model: ConditionedUNet, guidance: Guidance, x: Tensor, t: Tensor, condition: Condition) -> Output:
    active = guidance.active
    if not active:
        output: Output = model(x, t, condition)
        return output
    parts = [condition, *(condition.without(name) for name, _ in active)]
    copies = len(parts)
    joint: Output = model(x.repeat(copies, 1, 1, 1), t.repeat(copies), Condition.concatenate(parts))
    plain, *without = joint.v.float().chunk(copies)  # their differences are small
    v = plain + torch.stack([w * (plain - u) for (_, w), u in zip(active, without, strict=True)]).sum(dim=0)
    return Output(v=v, mask_logits=joint.mask_logits[: len(x)])
