"""What a base model is trained on: pictures with what is known of them, and the batches that are drawn from them.

A batch is a function of the set, the settings and the step only, so a run can be interrupted and repeated.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from sonoshare_shared.science.model.conditions import ABSENT, Condition
from sonoshare_shared.science.model.diffusion import stratified_times

CLASSES: Final = ("benign", "malignant", "normal")
"""Classes of the base, in the order of its class slots."""
SIMULATED_SCANNER_SLOT: Final = 4


@dataclass(frozen=True)
class BasePictures:
    """n pictures of side S.

    Args:
        images: uint8 [n, S, S], grey values 0..255.
        masks: bool [n, S, S].
        boxes: float32 [n, 4], fractions of the image; NaN where unknown.
        labels: int64 [n], index in `CLASSES`.
        scanners: int64 [n], index in the simulator's scanner styles; -1 where it is none of them.
        has_mask: bool [n], whether the mask is known.
    """

    images: Tensor
    masks: Tensor
    boxes: Tensor
    labels: Tensor
    scanners: Tensor
    has_mask: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def joined(parts: Sequence[BasePictures]) -> BasePictures:
    """Several sets as one, in order."""
    return BasePictures(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})


@dataclass(frozen=True)
class TrainSettings:
    """What fixes a training run, together with the profile and the data.

    Args:
        seed: of weights, order, noise and the simulation.
        phantoms: size of the simulated training set.
        batch_size: images per step.
        learning_rate: at its highest.
        warm_up: steps until then.
        reference_step: from here the learning rate falls as 1/sqrt(step).
        drop: probability that a condition is absent, each on its own.
        clip_norm: of the batch gradient.
    """

    seed: int = 0
    phantoms: int = 12_000
    batch_size: int = 16
    learning_rate: float = 4e-3
    warm_up: int = 100
    reference_step: int = 600
    drop: float = 0.1
    clip_norm: float = 1.0


@dataclass(frozen=True)
class TrainingBatch:
    """Inputs of `denoising_loss` for one step."""

    images: Tensor
    masks: Tensor
    condition: Condition
    t: Tensor
    noise: Tensor


def training_batch(pictures: BasePictures, settings: TrainSettings, step: int) -> TrainingBatch:
    """Rows, augmentation, times and noise of one step; a function of (seed, step) only."""
    stream = hashlib.sha256(f"sonoshare base {settings.seed} {step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(stream[:8]) >> 1)
    count = settings.batch_size
    rows = torch.randint(len(pictures), (count,), generator=generator)
    mirror = torch.rand(count, generator=generator) < 0.5
    images = _mirrored(pictures.images[rows].float().div(255)[:, None], mirror)
    masks = _mirrored(pictures.masks[rows].float()[:, None], mirror)
    gamma = torch.exp(0.15 * torch.randn(count, 1, 1, 1, generator=generator))
    gain = 1 + 0.08 * torch.randn(count, 1, 1, 1, generator=generator)
    condition = condition_of(pictures, rows).mirrored(mirror)
    absent = torch.rand(3, count, generator=generator) < settings.drop
    return TrainingBatch(
        images=(gain * images.pow(gamma)).clamp(0, 1),
        masks=torch.where(pictures.has_mask[rows][:, None, None, None], masks, torch.nan),
        condition=condition.dropped(absent[0], absent[1], absent[2]),
        t=stratified_times(count, generator),
        noise=torch.randn(images.shape, generator=generator),
    )


def condition_of(pictures: BasePictures, rows: Tensor) -> Condition:
    """Conditions under which the base model learns these pictures."""
    scanners = pictures.scanners[rows]
    return Condition(
        labels=pictures.labels[rows],
        scanners=torch.where(scanners < 0, ABSENT, scanners + SIMULATED_SCANNER_SLOT),
        boxes=pictures.boxes[rows],
    )


def _mirrored(images: Tensor, rows: Tensor) -> Tensor:
    return torch.where(rows[:, None, None, None], images.flip(-1), images)
