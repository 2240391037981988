"""Phantoms painted batch by batch on a device, for the training of bases.

Numbers are drawn on the host as `simulator` draws them; the formulas are the simulator's own, computed in float32 by
`torch_arithmetic`. White noise, nearly all of the numbers, is named on the host and made on the device (`noise`).

Promises: a picture depends on the seed and its recipe only. Masks and boxes equal those of `simulate_recipes`. With
`host_noise` grey levels differ from its by at most 1 of 255 in 999 of 1000 pixels of a picture; with `keyed_noise` the
breast around the lesion is another draw of the same anatomy, and so is the speckle. For training only: releases and
ballots rest on the bits of `simulate_recipes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor

from sonoshare_shared.science.phantom.arithmetic import Plane
from sonoshare_shared.science.phantom.batch import draw_batch
from sonoshare_shared.science.phantom.noise import Noise, keyed_noise
from sonoshare_shared.science.phantom.simulator import (
    GRID_SIDE,
    PhantomDraws,
    Recipe,
    grid_side,
    keep_freed_memory,
    paint,
)
from sonoshare_shared.science.phantom.torch_arithmetic import TorchArithmetic, loaded
from sonoshare_shared.science.precision import FLOAT32, computing_in, forward_in

ROWS_ON_CPU: Final = 8
"""Pictures of 128 by 128 pixels that are painted together on a CPU: as many as its cache holds."""
ROWS_ON_ACCELERATOR: Final = 128


@dataclass(frozen=True)
class Painted:
    """Phantoms on a device.

    Attributes:
        images: uint8 [n, size, size].
        masks: bool [n, size, size], the lesion's outline filled.
        boxes: float32 [n, 4], (x, y, width, height) of the lesion in fractions of the image; zeros where there is none.
    """

    images: Tensor
    masks: Tensor
    boxes: Tensor


def paint_batch(draws: PhantomDraws, device: torch.device, *, side: int, size: int) -> Painted:
    """Paint pictures on a device.

    Args:
        draws: of `draw_batch`.
        device: where they are painted and stay.
        side: of the grid, pixels.
        size: of the pictures, pixels.
    """
    on = TorchArithmetic(device)
    with torch.no_grad(), computing_in(FLOAT32), forward_in(FLOAT32, device):
        image, mask = paint(loaded(draws, on), Plane(on, side))
        smaller = _averaged(mask.float(), size) >= 0.5
        return Painted(_eight_bits(_averaged(image, size)), smaller, _boxes(mask))


def in_chunks(recipes: Sequence[Recipe], device: torch.device, side: int) -> list[Sequence[Recipe]]:
    """As many recipes as are painted together on a device, then as many again, to the last."""
    rows = ROWS_ON_CPU if device.type == "cpu" else ROWS_ON_ACCELERATOR
    rows = max(1, rows * GRID_SIDE**2 // side**2)
    return [recipes[first : first + rows] for first in range(0, len(recipes), rows)]


def simulate_on(
    device: torch.device, recipes: Sequence[Recipe], *, seed: int, size: int, noise: Noise = keyed_noise
) -> Painted:
    """Simulate chosen pictures of a series on a device.

    Args:
        device: where they are painted and stay.
        recipes: which pictures.
        seed: seed of the series, at least 0.
        size: side of the pictures in pixels, as `simulate_recipes`.
        noise: `keyed_noise`, or `host_noise` for the very pictures of `simulate_recipes`.

    Returns:
        The pictures in the order of the recipes.

    Raises:
        InputError: the size is not understood.
    """
    side = grid_side(size)
    keep_freed_memory()
    parts = [_nothing(device, size)]
    for chunk in in_chunks(recipes, device, side):
        draws = draw_batch(chunk, seed=seed, side=side, noise=noise)
        parts.append(paint_batch(draws, device, side=side, size=size))
    return joined(parts)


def joined(parts: Sequence[Painted]) -> Painted:
    """Several batches as one, in order."""
    return Painted(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(Painted)))


def _nothing(device: torch.device, size: int) -> Painted:
    """No picture at all."""
    none = torch.empty(0, size, size, dtype=torch.uint8, device=device)
    return Painted(none, none.bool(), torch.empty(0, 4, dtype=torch.float32, device=device))


def _averaged(pictures: Tensor, size: int) -> Tensor:
    """Area average of [n, side, side] to [n, size, size]."""
    factor = pictures.shape[-1] // size
    return pictures.view(-1, size, factor, size, factor).mean(dim=(2, 4))


def _eight_bits(levels: Tensor) -> Tensor:
    """As `levels.eight_bits`."""
    return (levels.clamp(0.0, 1.0) * 255).round().to(torch.uint8)


def _boxes(masks: Tensor) -> Tensor:
    """Bounding box of each mask [n, side, side] in fractions, float32 [n, 4]; zeros where the mask is empty."""
    side, place = masks.shape[-1], torch.arange(masks.shape[-1], device=masks.device)
    lesion = torch.stack([masks.any(dim=1), masks.any(dim=2)], dim=1)  # its columns, its rows: [n, 2, side]
    first = torch.where(lesion, place, side).amin(dim=2)
    end = torch.where(lesion, place + 1, 0).amax(dim=2)
    boxes = torch.cat([first, end - first], dim=1) / side
    return torch.where(masks.any(dim=(1, 2))[:, None], boxes, 0.0)
