"""The yardstick classifiers: a small CNN, and logistic regression on frozen features.

Both are fixed in advance (sizes, steps, augmentation), so that nothing is chosen on the data they are tested on. They
measure what images are worth to a learner of this kind; they are not a diagnostic device.

Promises: same images, labels, steps and seed give the same classifier on one machine and processor; the global random
state of torch is left as it was. First weights, batches and augmentation are drawn on the processor whatever the
device; dropout is drawn on the device, so that another device gives another classifier of the same kind.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.precision import FLOAT32, computing_in

STEPS = 400
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
CHANNELS = (24, 32, 64, 96)
SHIFT_PX = 4
"""Largest random shift in training, pixels at 64 px."""
CONTRAST_NOISE, BRIGHTNESS_NOISE = 0.2, 0.2
PROBE_PENALTY = 0.003
"""C of the logistic regression: 1280 standardised features against some thousand images need a strong penalty."""


def _network() -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(1, CHANNELS[0], 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(CHANNELS[0]),
        nn.ReLU(),
    ]
    for inside, outside in pairwise(CHANNELS):
        layers += [
            nn.Conv2d(inside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(CHANNELS[-1], 1))


def _standardised(images: NDArray[np.floating]) -> Tensor:
    """Each picture with mean 0 and standard deviation 1, [n, 1, S, S]: gain says nothing about pathology."""
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise InputError(f"images of shape {images.shape} are not [n, size, size]", remedy="bring them to the grid")
    x = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))[:, None]
    centred = (x - x.mean(dim=(2, 3), keepdim=True)) / (x.std(dim=(2, 3), keepdim=True) + 1e-3)
    return centred.contiguous(memory_format=torch.channels_last)  # a third faster on CPUs


@dataclass(frozen=True)
class Classifier:
    """A trained network; see :func:`fit`."""

    network: nn.Sequential

    def predict(self, images: NDArray[np.floating]) -> NDArray[np.float64]:
        """Score pictures, averaged over the mirrored picture.

        Args:
            images: [n, S, S] of the size trained on, grey levels in 0..1.

        Returns:
            [n], larger for the positive class (a logit).
        """
        x = _standardised(images).to(next(self.network.parameters()).device)
        with torch.no_grad(), computing_in(FLOAT32):
            scores = [(self.network(part) + self.network(part.flip(-1)))[:, 0] / 2.0 for part in torch.split(x, 128)]
        return torch.cat(scores).double().cpu().numpy() if scores else np.empty(0)


def _augmented(x: Tensor, random: torch.Generator) -> Tensor:
    """Mirror, shift, contrast and brightness."""
    n, side = len(x), x.shape[-1]
    reach = max(1, round(SHIFT_PX * side / 64))
    mirrored = torch.where(torch.rand(n, 1, 1, 1, generator=random).to(x.device) < 0.5, x, x.flip(-1))
    down, across = torch.randint(-reach, reach + 1, (2,), generator=random).tolist()
    moved = torch.roll(mirrored, (int(down), int(across)), (2, 3))
    contrast, brightness = (torch.randn(n, 1, 1, 1, generator=random).to(x.device) for _ in range(2))
    return moved * (1.0 + CONTRAST_NOISE * contrast) + BRIGHTNESS_NOISE * brightness


def fit(
    images: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    steps: int = STEPS,
    seed: int = 0,
    start: Classifier | None = None,
    device: torch.device = CPU,
) -> Classifier:
    """Train the small CNN on balanced batches (UTILITY yardstick: 0.85 on BUS-BRA with all real patients).

    Args:
        images: [n, S, S], grey levels in 0..1.
        labels: [n], 0 or 1; both must occur.
        steps: optimiser steps.
        seed: seed of initial weights, batches and augmentation.
        start: a trained classifier to go on from; left as it is.
        device: where it is trained, and stays.

    Returns:
        The trained classifier.
    """
    x, y = _standardised(images).to(device), torch.from_numpy(np.asarray(labels, dtype=np.float32))
    pools = [torch.nonzero(y == value)[:, 0] for value in (0.0, 1.0)]
    if len(y) != len(x) or sum(map(len, pools)) != len(y) or min(map(len, pools)) == 0:
        raise InputError("a classifier needs one label, 0 or 1, for each image, and both classes", remedy="add images")
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[] if device == CPU else [device]), computing_in(FLOAT32):
        torch.manual_seed(seed)
        network = _network().train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if start is not None:
            network.load_state_dict(start.network.state_dict())
        optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
        for _ in range(steps):
            rows = torch.cat([p[torch.randint(len(p), (BATCH // 2,), generator=random)] for p in pools])
            logits = network(_augmented(x[rows.to(device)], random))[:, 0]
            loss = functional.binary_cross_entropy_with_logits(logits, y[rows].to(device))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return Classifier(network.eval())


@dataclass(frozen=True)
class Probe:
    """Logistic regression on standardised features."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Score features [n, d]; larger for the positive class."""
        return np.asarray((features - self.mean) / self.scale @ self.weights + self.bias)


def fit_probe(features: NDArray[np.floating], labels: NDArray[np.integer], penalty: float = PROBE_PENALTY) -> Probe:
    """Logistic regression with an L2 penalty and balanced classes.

    Args:
        features: [n, d] frozen features.
        labels: [n], 0 or 1; both must occur.
        penalty: C, the inverse strength of the penalty.

    Returns:
        The probe.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 (slow to import, used by evaluation only)

    x = np.asarray(features, dtype=np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=2000)
    model.fit((x - mean) / scale, np.asarray(labels))
    return Probe(mean, scale, np.asarray(model.coef_[0], dtype=np.float64), float(model.intercept_[0]))
