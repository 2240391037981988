"""The yardstick classifiers: a small CNN, and logistic regression on frozen features.

Both are fixed in advance (sizes, augmentations, and by ``RECIPE`` how long the CNN trains on a set of a given size), so
that nothing is chosen on the data they are tested on. They measure what images are worth to a learner of this kind;
they are not a diagnostic device.

*How long.* 1,000 pictures are trained on for ``least_steps``, a hundred times as many for ``passes`` over them: the
learning rate rises and falls to zero within these steps (one cycle), so a set is trained on to the end and never
stopped at its best. The rule reads the number of pictures and nothing else: no test picture, and no validation part of
a hospital's patients, which would be a statistic of patients. How it was chosen: ``docs/decisions/0090``.

Promises: same images, labels, steps and seed give the same classifier on one machine and device, in float32; the global
random state of torch is left as it was. First weights, batches and augmentation are drawn on the processor whatever the
device; dropout is drawn on the device, so that another device gives another classifier of the same kind.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation.augmentation import Variation, standardised, varied
from sonoshare_shared.science.precision import FLOAT32, computing_in

BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
CHANNELS = (24, 32, 64, 96)
PROBE_PENALTY = 0.003
"""C of the logistic regression: 1280 standardised features against some thousand images need a strong penalty."""
PREDICTED_AT_ONCE = 128


@dataclass(frozen=True)
class Recipe:
    """How the small CNN is trained on a set of pictures.

    Attributes:
        least_steps: optimiser steps of a small set.
        passes: over a large set: as many pictures are drawn as it has, that many times.
        variation: of training pictures, besides the usual.
    """

    least_steps: int = 1200
    passes: int = 20
    variation: Variation = field(default_factory=Variation)

    def steps_for(self, images: int) -> int:
        """Optimiser steps for a set of that many pictures."""
        return max(self.least_steps, math.ceil(self.passes * images / BATCH))


RECIPE: Final = Recipe()
"""Of every figure that is reported (decision 0090)."""


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


def _pictures(images: NDArray[np.floating], device: torch.device) -> Tensor:
    """Grey levels [n, 1, S, S] on the device, where they stay: batches are gathered there."""
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise InputError(f"images of shape {images.shape} are not [n, size, size]", remedy="bring them to the grid")
    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))[:, None].to(device)


@dataclass(frozen=True)
class Classifier:
    """A trained network; see :func:`fit`."""

    network: nn.Sequential

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Classifier":
        """A classifier from what :meth:`state` gave, on the host."""
        network = _network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.load_state_dict(dict(state))
        return cls(network.eval())

    def state(self) -> dict[str, Tensor]:
        """Weights and statistics by name, on the host."""
        return {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}

    def predict(self, images: NDArray[np.floating]) -> NDArray[np.float64]:
        """Score pictures, averaged over the mirrored picture.

        Args:
            images: [n, S, S] of the size trained on, grey levels in 0..1.

        Returns:
            [n], larger for the positive class (a logit).
        """
        device = next(self.network.parameters()).device
        parts = torch.split(_pictures(images, device), PREDICTED_AT_ONCE)
        with torch.no_grad(), computing_in(FLOAT32):
            scores = [self._score(standardised(part)).cpu() for part in parts]
        return torch.cat(scores).double().numpy() if scores else np.empty(0)

    def _score(self, x: Tensor) -> Tensor:
        both: Tensor = self.network(x) + self.network(x.flip(-1))
        return both[:, 0] / 2.0


def fit(
    images: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    steps: int | None = None,
    seed: int = 0,
    start: Classifier | None = None,
    recipe: Recipe = RECIPE,
    device: torch.device = CPU,
) -> Classifier:
    """Train the small CNN on balanced batches.

    Args:
        images: [n, S, S], grey levels in 0..1.
        labels: [n], 0 or 1; both must occur.
        steps: optimiser steps; by default those of the recipe for n images.
        seed: seed of initial weights, batches and augmentation.
        start: a trained classifier to go on from; left as it is.
        recipe: how it is trained; another one is for choosing the rule, not for figures.
        device: where it trains and stays; all pictures are moved there at once (1.6 GB for 100,000 of 64 px).

    Returns:
        The trained classifier.
    """
    x, y = _pictures(images, device), torch.from_numpy(np.asarray(labels, dtype=np.float32))
    pools = [torch.nonzero(y == value)[:, 0] for value in (0.0, 1.0)]
    if len(y) != len(x) or sum(map(len, pools)) != len(y) or min(map(len, pools)) == 0:
        raise InputError("a classifier needs one label, 0 or 1, for each image, and both classes", remedy="add images")
    random, count = torch.Generator().manual_seed(seed), recipe.steps_for(len(x)) if steps is None else steps
    forked = [] if device == CPU else [device]  # dropout draws there
    with torch.random.fork_rng(devices=forked), computing_in(FLOAT32):
        torch.manual_seed(seed)
        network = _network().train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if start is not None:
            network.load_state_dict(start.network.state_dict())
        optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=count)
        for _ in range(count):
            rows = torch.cat([p[torch.randint(len(p), (BATCH // 2,), generator=random)] for p in pools])
            logits = network(varied(x[rows.to(device)], recipe.variation, random))[:, 0]
            loss = functional.binary_cross_entropy_with_logits(logits, y[rows].to(device))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch gives it no types
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
