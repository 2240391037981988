"""Aligned correlation: how alike two images are, over shifts, scales, small rotations and the left-right flip.

Both images are brought to 32 px and *locally normalised* (each pixel minus the mean and over the standard deviation
of a Gaussian neighbourhood). What two unrelated ultrasound pictures have in common, a bright top and a dark bottom,
is gone, and so are gamma, brightness and gain curves; speckle, borders and layers, which a copy repeats, stay. The
score of (candidate, patient image) is the largest normalised correlation of the candidate's central 28 x 28 window
with the windows of the posed patient image.

Promises: exact maximum over the listed poses (blocked matrix products, no index that could miss); a score depends
on its two images alone, never on other patients; scores in -1..1. Does not promise: rotations beyond about 10
degrees, crops below 80 %, or blends of two images at even weights are found (copies.py prints the recall).

Images are float32 [n, S, S] in 0..1.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sonoshare_privacy.audits.search import products
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.precision import FLOAT32, computing_in

SIDE: Final = 32
"""Side in pixels at which images are compared."""

WINDOW: Final = 28
"""Side of the compared window: shifts of up to 2 pixels (6 % of the image) at scale 1."""

NEIGHBOURHOOD: Final = 3.0
"""Standard deviation in pixels of the Gaussian neighbourhood of the local normalisation."""

FLAT: Final = 0.05
"""Grey level added to the local standard deviation: flat regions are not blown up into noise."""

# (scale, step in pixels, degrees): the patient image is enlarged by 1/scale and turned; windows every step.
POSES: Final[tuple[tuple[float, int, float], ...]] = (
    (1.0, 1, 0.0),
    (0.95, 2, 0.0),
    (0.9, 2, 0.0),
    (0.85, 2, 0.0),
    (0.8, 2, 0.0),
    (1.0, 2, 4.0),
    (1.0, 2, -4.0),
    (1.0, 2, 8.0),
    (1.0, 2, -8.0),
    (0.9, 2, 4.0),
    (0.9, 2, -4.0),
)


@dataclass(frozen=True)
class View:
    """How closely pictures are compared.

    Args:
        window: side of the compared window, after pooling.
        pooled: side of the square of locally normalised pixels that is averaged into one.
        poses: poses of the patient image; steps are counted after pooling.
    """

    window: int
    pooled: int
    poses: tuple[tuple[float, int, float], ...]


FINE: Final = View(WINDOW, 1, POSES)
"""The detector."""

COARSE: Final = View(14, 2, ((1.0, 1, 0.0), (0.9, 1, 0.0), (0.8, 1, 0.0)))
"""A twelfth of the work: ranks pairs that are worth the detector's look (twins.py); its scores decide nothing."""

COARSER: Final = View(14, 2, ((1.0, 1, 0.0), (0.85, 1, 0.0)))
"""A twentieth: enough to rank a copy among candidates (nearest.py), too little for twins, who are less alike."""

IMAGES_PER_BLOCK: Final = 8
"""Patient images posed at a time: about 12 MB of windows."""


def candidate_windows(images: NDArray[np.float32], device: torch.device = CPU, view: View = FINE) -> Tensor:
    """Return the normalised central windows of candidates, float32 [n, window**2] of unit length."""
    local = _pooled(_local_normalised(_resized(_tensor(images, device), SIDE)), view.pooled)
    offset = (local.shape[1] - view.window) // 2
    return _unit(local[:, offset : offset + view.window, offset : offset + view.window].flatten(1))


def posed_windows(images: NDArray[np.float32], device: torch.device = CPU, view: View = FINE) -> Tensor:
    """Return the normalised windows of patient images in all poses, float32 [n, poses, window**2]."""
    upright = _tensor(images, device)
    patches: list[Tensor] = []
    for scale, step, degrees in view.poses:
        local = _pooled(_local_normalised(_turned(_resized(upright, round(SIDE / scale)), degrees)), view.pooled)
        both = (local, local.flip(2))  # turned by -degrees after the flip: both signs are in the list
        patches += [picture.unfold(1, view.window, step).unfold(2, view.window, step) for picture in both]
    poses = sum(patch.shape[1] * patch.shape[2] for patch in patches)
    windows = upright.new_empty(len(images), poses, view.window, view.window)
    first = 0
    for patch in patches:
        last = first + patch.shape[1] * patch.shape[2]
        windows[:, first:last].view(patch.shape).copy_(patch)
        first = last
    return _unit(windows.flatten(2))


@computing_in(FLOAT32)
def best_correlations(
    candidates: NDArray[np.float32], images: NDArray[np.float32], device: torch.device = CPU
) -> NDArray[np.float32]:
    """Return the score of every pair, float32 [n candidates, n images]; for small sets (calibration)."""
    scores = np.empty((len(candidates), len(images)), dtype=np.float32)
    windows = candidate_windows(candidates, device)
    for start in range(0, len(images), IMAGES_PER_BLOCK):
        block = pair_scores(windows, posed_windows(images[start : start + IMAGES_PER_BLOCK], device))
        scores[:, start : start + block.shape[1]] = block.cpu().numpy()
    return scores


@computing_in(FLOAT32)
def paired_correlations(
    candidates: NDArray[np.float32], images: NDArray[np.float32], device: torch.device = CPU, view: View = FINE
) -> NDArray[np.float32]:
    """Return the scores of images with their own candidates only, float32 [m, n].

    Args:
        candidates: float32 [m, n, S, S]; candidates[:, i] belong to images[i].
        images: float32 [n, S, S].
        device: torch device.
        view: how closely they are compared.
    """
    if candidates.ndim != 4 or candidates.shape[1] != len(images):
        raise InputError("pairs need candidates [m, n, S, S] for images [n, S, S]")
    scores = np.empty(candidates.shape[:2], dtype=np.float32)
    for start in range(0, len(images), IMAGES_PER_BLOCK):
        for place, posed in enumerate(posed_windows(images[start : start + IMAGES_PER_BLOCK], device, view), start):
            window = candidate_windows(candidates[:, place], device, view)
            scores[:, place] = pair_scores(window, posed[None])[:, 0].cpu().numpy()
    return scores


def pair_scores(window: Tensor, posed: Tensor) -> Tensor:
    """Return the best score over poses of every pair, [n candidates, n images], from windows of one view."""
    images, poses, _ = posed.shape
    return products(window, posed.flatten(0, 1)).view(len(window), images, poses).amax(2)


def _tensor(images: NDArray[np.float32], device: torch.device) -> Tensor:
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise InputError("the copy detector compares square grey images [n, S, S]")
    return torch.as_tensor(np.require(images, np.float32, ["C", "W"]), device=device)


def _resized(images: Tensor, side: int) -> Tensor:
    if images.shape[-1] == side:
        return images
    size = (side, side)
    return functional.interpolate(images[:, None], size, mode="bilinear", antialias=True, align_corners=False)[:, 0]


def _turned(images: Tensor, degrees: float) -> Tensor:
    if degrees == 0:
        return images
    angle = math.radians(degrees)
    turn = [[math.cos(angle), math.sin(angle), 0.0], [-math.sin(angle), math.cos(angle), 0.0]]
    theta = torch.tensor(turn, dtype=torch.float32, device=images.device).expand(len(images), 2, 3)
    grid = functional.affine_grid(theta, [len(images), 1, *images.shape[1:]], align_corners=False)
    sampled = functional.grid_sample(images[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[:, 0]


def _pooled(local: Tensor, side: int) -> Tensor:
    return local if side == 1 else functional.avg_pool2d(local[:, None], side)[:, 0]


def _local_normalised(images: Tensor) -> Tensor:
    centred = images - _blurred(images)
    return centred / (_blurred(centred * centred).sqrt() + FLAT)


def _blurred(images: Tensor) -> Tensor:
    kernel = _blur(images.shape[-1]).to(images.device)
    across = (kernel @ images).transpose(1, 2)  # kernel first: one product an image, so that images do not mix
    return (kernel @ across).transpose(1, 2)


@lru_cache(maxsize=16)
def _blur(side: int) -> Tensor:
    """The Gaussian along one axis as a matrix [side, side]; pixels of the border are repeated outwards."""
    radius = math.ceil(3 * NEIGHBOURHOOD)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-(offsets.float() ** 2) / (2 * NEIGHBOURHOOD**2))
    rows = torch.arange(side)
    columns = (rows[:, None] + offsets).clamp(0, side - 1)
    kernel = torch.zeros(side, side)
    return kernel.scatter_add_(1, columns, (weights / weights.sum()).expand(side, -1))


def _unit(windows: Tensor) -> Tensor:
    """Bring windows [..., pixels] to mean 0 and length 1, in place."""
    windows -= windows.mean(-1, keepdim=True)
    windows /= windows.norm(dim=-1, keepdim=True).add_(1e-6)
    return windows
