"""Phantoms painted batch by batch on a device, for the training of bases.

Random numbers are numpy's, drawn on the host as `simulator` draws them; the formulas are the simulator's own, computed
in float32 by `torch_arithmetic`. So these are the simulator's phantoms, rounded otherwise.

Promises: a picture depends on the seed and its recipe only. Masks, boxes, labels and scanners equal those of
`simulate_recipes`; grey levels differ by at most 1 of 255 in 999 of 1000 pixels of a picture. For training only:
releases and ballots rest on the bits of `simulate_recipes`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_shared.science.phantom.arithmetic import Plane
from sonoshare_shared.science.phantom.simulator import GRID_SIDE, PhantomDraws, Recipe, draw_one, grid_side, paint
from sonoshare_shared.science.phantom.torch_arithmetic import TorchArithmetic, stacked

ROWS_ON_CPU: Final = 8
"""Pictures of 128 by 128 pixels that are painted together on a CPU: as many as its cache holds."""
ROWS_ON_ACCELERATOR: Final = 128


@dataclass(frozen=True)
class PhantomTensors:
    """Phantoms on a device.

    Attributes:
        images: uint8 [n, size, size].
        masks: bool [n, size, size], the lesion's outline filled.
        boxes: float32 [n, 4], (x, y, width, height) of the lesion in fractions of the image; zeros where there is none.
        labels: int64 [n], as given.
        scanners: int64 [n], index in ``SCANNER_STYLES``.
    """

    images: Tensor
    masks: Tensor
    boxes: Tensor
    labels: Tensor
    scanners: Tensor


def simulate_on(
    device: torch.device,
    recipes: Sequence[Recipe],
    labels: NDArray[np.integer],
    *,
    seed: int,
    size: int,
    threads: int = 1,
) -> PhantomTensors:
    """Simulate chosen pictures of a series on a device.

    Args:
        device: where they are painted and stay.
        recipes: which pictures.
        labels: int [n], what to call the class of each.
        seed: seed of the series, at least 0.
        size: side of the pictures in pixels, as `simulate_recipes`.
        threads: of the host, that draw random numbers.

    Returns:
        The pictures in the order of the recipes.

    Raises:
        InputError: the size is not understood.
    """
    side, n = grid_side(size), len(recipes)
    on = TorchArithmetic(device)
    plane = Plane(on, side)
    images = torch.empty(n, size, size, dtype=torch.uint8, device=device)
    masks = torch.empty(n, size, size, dtype=torch.bool, device=device)
    boxes = torch.empty(n, 4, dtype=torch.float32, device=device)
    at_once = ROWS_ON_CPU if device.type == "cpu" else ROWS_ON_ACCELERATOR
    rows = max(1, at_once * GRID_SIDE**2 // side**2)

    def draws_of(recipe: Recipe) -> PhantomDraws:
        return draw_one(recipe, seed=seed, side=side).draws

    with ThreadPoolExecutor(threads) as pool, torch.no_grad(), torch.autocast(device.type, enabled=False):
        for first in range(0, n, rows):
            chosen = recipes[first : first + rows]
            drawn = list(map(draws_of, chosen) if threads == 1 else pool.map(draws_of, chosen))
            image, mask = paint(stacked(drawn, on), plane)
            here = slice(first, first + len(drawn))
            images[here] = _eight_bits(_averaged(image, size))
            masks[here] = _averaged(mask.float(), size) >= 0.5
            boxes[here] = _boxes(mask)
    scanners = torch.tensor([recipe.scanner for recipe in recipes], dtype=torch.int64)
    given = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    return PhantomTensors(images, masks, boxes, given.to(device), scanners.to(device))


def _averaged(pictures: Tensor, size: int) -> Tensor:
    """Area average of [n, side, side] to [n, size, size]."""
    factor = pictures.shape[-1] // size
    return pictures.view(-1, size, factor, size, factor).mean(dim=(2, 4))


def _eight_bits(levels: Tensor) -> Tensor:
    """As `levels.eight_bits`."""
    return (levels.clamp(0.0, 1.0) * 255).round().to(torch.uint8)


def _boxes(masks: Tensor) -> Tensor:
    """Bounding box of each mask [n, side, side] in fractions, float32 [n, 4]; zeros where the mask is empty."""
    side = masks.shape[-1]
    columns, rows = masks.any(dim=1).to(torch.uint8), masks.any(dim=2).to(torch.uint8)
    first = torch.stack([columns.argmax(dim=1), rows.argmax(dim=1)], dim=1)
    last = side - torch.stack([columns.flip(1).argmax(dim=1), rows.flip(1).argmax(dim=1)], dim=1)
    boxes = torch.cat([first, last - first], dim=1) / side
    return torch.where(masks.any(dim=(1, 2))[:, None], boxes, 0.0)
