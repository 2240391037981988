"""Two views of a picture: the whole of it, and its lesion cropped to the box, each as a few coordinates.

Whole pictures tell tissue and scanner, crops tell lesions (a whole picture at 64 px says little about the margin).
Coordinates are frozen image features, projected on the principal directions of phantoms; no patient is in them.

Promises: the coordinates of a picture depend on that picture and its box only. A picture that is known to have no
lesion (a box without extent) has the whole picture as its crop; one whose box is unknown has NaN there.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.evaluation.described import crops

VIEWS: Final = 2
WHOLE, LESION = 0, 1
DIRECTIONS: Final = 24
"""Coordinates of each view."""


def seen(images: NDArray[np.floating], boxes: NDArray[np.floating], device: torch.device = CPU) -> NDArray[np.float32]:
    """Features of both views.

    Args:
        images: [n, S, S], grey levels in 0..1.
        boxes: [n, 4], x, y, w, h in fractions; NaN where unknown, no extent where there is no lesion.
        device: where they are computed.

    Returns:
        float32 [n, 2, 1280], NaN in the lesion's row where the box is unknown.
    """
    grey, placed = images.astype(np.float32), boxes.astype(np.float32)
    known = np.isfinite(placed).all(axis=1)
    placed[known & (placed[:, 2:] <= 0).any(axis=1)] = (0, 0, 1, 1)
    both = np.full((len(grey), VIEWS, features.POOLED), np.nan, np.float32)
    both[:, WHOLE] = features.pooled(grey, device)
    if known.any():
        both[known, LESION] = features.pooled(crops(grey[known], placed[known]), device)
    return both


def projected(both: NDArray[np.float32], mean: NDArray[np.float32], basis: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coordinates of both views, float32 [n, 2, d]; see `directions` for mean and basis."""
    return np.asarray(np.einsum("nvf,vfd->nvd", both - mean, basis), dtype=np.float32)


def directions(both: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean [2, 1280] and principal directions [2, 1280, d] of each view of some pictures whose boxes are known.

    Each direction is divided by the root of its deviation, so that none rules alone.
    """
    mean = both.mean(axis=0)
    count = min(DIRECTIONS, len(both) - 1)
    return mean, np.stack([_directions(both[:, view] - mean[view], count) for view in range(VIEWS)])


def _directions(centred: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    variances, vectors = np.linalg.eigh(np.cov(centred, rowvar=False, dtype=np.float64))
    largest = np.argsort(variances)[::-1][:count]
    scaled = vectors[:, largest] / np.maximum(variances[largest], 1e-12) ** 0.25
    return np.asarray(scaled, dtype=np.float32)
