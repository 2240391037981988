"""A public warm start: before a patient is seen, the trained numbers learn the study's own phantoms.

Example: a study refines phantoms from time 120. Its base was trained at all times, and learned the earliest ones
least. Two hundred small steps on the phantoms that the study will refine, at the times that it will use, teach the
adapter what no patient needs to teach. What the budget buys then is about patients.

Promised: the same model, task and constants give the same adapter (same machine and thread count); only the trained
parameters change; no patient is seen, so nothing is charged. `WarmStart` names all constants.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import Parameter, utils

from sonoshare_shared.protocol.documents import Task
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.diffusion import stratified_times
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.phantom import PhantomBatch
from sonoshare_shared.science.tasks.phantoms import task_phantoms

MOMENTS: Final = (0.9, 0.99)
RISE: Final = 50
"""Steps until the learning rate is at its highest; then it falls to zero."""
LONGEST_GRADIENT: Final = 1.0
ABSENT_SHARE: Final = 0.1
"""Of rows in which a condition is absent, each on its own: guidance needs both."""
SEED: Final = 20_262


@dataclass(frozen=True)
class WarmStart:
    """Public constants.

    Attributes:
        steps: of the optimiser.
        latest_time: last diffusion time of the rows, as in the study's training.
        phantoms: how many different ones.
        batch: rows of a step.
        learning_rate: Adam's, at its highest.
        seed: of phantoms and rows.
    """

    steps: int
    latest_time: int
    phantoms: int = 1000
    batch: int = 16
    learning_rate: float = 1e-3
    seed: int = SEED


@dataclass(frozen=True)
class Rows:
    """Inputs of `denoising_loss` for one step."""

    images: Tensor
    masks: Tensor
    condition: Condition
    t: Tensor
    noise: Tensor


def warm_start(
    model: ConditionedUNet,
    parameters: Mapping[str, Parameter],
    task: Task,
    constants: WarmStart,
    told: Callable[[int, int], None] | None = None,
) -> None:
    """Train some of a model's parameters on phantoms of a task, in place.

    Args:
        model: on any device.
        parameters: those that learn; all others stay.
        task: whose phantoms; class indices are the task's, scanners absent.
        constants: of the training; no steps change nothing.
        told: called with (steps done, steps in all).

    Raises:
        InputError: no phantom stands for a class of the task.
    """
    if constants.steps == 0:
        return
    count = min(constants.phantoms, constants.steps * constants.batch)
    phantoms = task_phantoms(task, count, seed=constants.seed, size=model.profile.size)
    fine_tune(
        model,
        parameters,
        lambda step: phantom_rows(phantoms, constants, step),
        steps=constants.steps,
        learning_rate=constants.learning_rate,
        told=told,
    )


def fine_tune(
    model: ConditionedUNet,
    parameters: Mapping[str, Parameter],
    rows: Callable[[int], Rows],
    *,
    steps: int,
    learning_rate: float,
    told: Callable[[int, int], None] | None = None,
) -> None:
    """Ordinary fine-tuning on public rows, without any privacy: AdamW, the last iterate.

    Args:
        model: changed in place.
        parameters: those that learn.
        rows: of a step, from 0.
        steps: how many.
        learning_rate: at its highest.
        told: called with (steps done, steps in all).
    """
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    for parameter in required:
        parameter.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(parameters.values(), learning_rate, betas=MOMENTS, weight_decay=0.0)
    device = next(model.parameters()).device
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min((step + 1) / RISE, 1 - step / steps)
        batch = rows(step)
        images, masks, t, noise = (each.to(device) for each in (batch.images, batch.masks, batch.t, batch.noise))
        loss = denoising_loss(model, images, masks, batch.condition.to(device), t, noise).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call] # torch gives it no types
        utils.clip_grad_norm_(parameters.values(), LONGEST_GRADIENT)
        optimiser.step()
        if told is not None:
            told(step + 1, steps)
    for parameter, before in required.items():
        parameter.grad = None
        parameter.requires_grad_(before)


def phantom_rows(phantoms: PhantomBatch, constants: WarmStart, step: int) -> Rows:
    """Rows of one step: a function of the constants and the step only."""
    stream = hashlib.sha256(f"sonoshare warm start {constants.seed} {step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(stream[:8]) >> 1)
    chosen = torch.randint(len(phantoms.labels), (constants.batch,), generator=generator).numpy()
    mirrored = torch.rand(constants.batch, generator=generator) < 0.5
    absent = torch.rand(2, constants.batch, generator=generator) < ABSENT_SHARE
    condition = Condition.of(phantoms.labels[chosen], None, phantoms.boxes[chosen]).mirrored(mirrored)
    flip = mirrored[:, None, None]
    images, masks = torch.from_numpy(phantoms.images[chosen]), torch.from_numpy(phantoms.masks[chosen]).float()
    return Rows(
        images=torch.where(flip, images.flip(-1), images)[:, None],
        masks=torch.where(flip, masks.flip(-1), masks)[:, None],
        condition=condition.dropped(absent[0], torch.zeros_like(absent[0]), absent[1]),
        t=stratified_times(constants.batch, generator, constants.latest_time),
        noise=torch.randn(constants.batch, 1, *images.shape[1:], generator=generator),
    )
