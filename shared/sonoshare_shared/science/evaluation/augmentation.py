"""Pictures as a training batch of the small CNN: varied as another scan or another machine would vary them.

Promises: a batch depends on the pictures and the generator only; the draws are made on the host, so they are the same
whatever device the pictures are on. Labels keep their meaning: nothing is cut away but a rim, nothing is turned upside
down (what lies deeper stays deeper). Output is standardised picture by picture: gain says nothing about pathology.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SHIFT_PX = 4
"""Largest random shift in training, pixels at 64 px."""
CONTRAST_NOISE, BRIGHTNESS_NOISE = 0.2, 0.2
LEAST_LEVEL = 1e-3
"""Grey level that a gamma starts from: the derivative at 0 has no bound."""


@dataclass(frozen=True)
class Variation:
    """What is varied besides mirror, shift, contrast and brightness; 0 leaves it out.

    Attributes:
        crop: largest share of the side that is cut away, by a random window brought back to the whole side.
        gamma: standard deviation of the logarithm of a random gamma.
    """

    crop: float = 0.0
    gamma: float = 0.0


def standardised(x: Tensor) -> Tensor:
    """Each picture of [n, 1, S, S] with mean 0 and standard deviation 1."""
    centred = (x - x.mean(dim=(2, 3), keepdim=True)) / (x.std(dim=(2, 3), keepdim=True) + 1e-3)
    return centred.contiguous(memory_format=torch.channels_last)  # a third faster on CPUs


def varied(x: Tensor, variation: Variation, random: torch.Generator) -> Tensor:
    """A training batch.

    Args:
        x: grey levels in 0..1, [n, 1, S, S], on any device.
        variation: what is varied besides the usual.
        random: a generator of the host.

    Returns:
        [n, 1, S, S] on the same device, standardised, then varied in contrast and brightness.
    """
    n, side = len(x), x.shape[-1]
    if variation.gamma:
        exponent = torch.exp(variation.gamma * torch.randn(n, 1, 1, 1, generator=random)).to(x.device)
        x = x.clamp(LEAST_LEVEL, 1.0) ** exponent
    if variation.crop:
        x = _window(x, variation.crop, random)
    mirrored = torch.where(torch.rand(n, 1, 1, 1, generator=random).to(x.device) < 0.5, x, x.flip(-1))
    reach = max(1, round(SHIFT_PX * side / 64))
    down, across = torch.randint(-reach, reach + 1, (2,), generator=random).tolist()
    moved = standardised(torch.roll(mirrored, (int(down), int(across)), (2, 3)))
    contrast = 1.0 + CONTRAST_NOISE * torch.randn(n, 1, 1, 1, generator=random).to(x.device)
    return moved * contrast + BRIGHTNESS_NOISE * torch.randn(n, 1, 1, 1, generator=random).to(x.device)


def _window(x: Tensor, most: float, random: torch.Generator) -> Tensor:
    """A random window of each picture, at least ``1 - most`` of width and of height, brought back to the side."""
    size = 1.0 - most * torch.rand(len(x), 2, generator=random)
    centre = (1.0 - size) * (2.0 * torch.rand(len(x), 2, generator=random) - 1.0)  # of -1..1, inside the picture
    places = torch.zeros(len(x), 2, 3)
    places[:, 0, 0], places[:, 1, 1] = size[:, 0], size[:, 1]
    places[:, :, 2] = centre
    grid = functional.affine_grid(places.to(x.device), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
