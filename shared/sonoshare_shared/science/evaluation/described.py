"""Sets of pictures as frozen features, whole and cropped to the lesion, and the distances of parts of them.

Promises: at most `MOST` pictures of a set enter, the same at every call and drawn without regard to their order, in
which classes may take turns. A crop is the lesion's box with a margin, brought to the size of the picture, and only
pictures whose box is known have one; so whole pictures compare tissue and scanner, crops compare lesions. Where a side
has too few pictures for a distance there is None, not a number without meaning.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.evaluation.distances import NEIGHBOURS, compare
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.imaging import to_grid

MOST: Final = 2000
"""Pictures of each side that enter the distances; more cost minutes and change little."""
CROP_MARGIN: Final = 0.2
"""Of the box's side, on each side."""
WHOLE, LESION_CROP = "whole", "lesion_crop"


@dataclass(frozen=True)
class Described:
    """Pictures as features.

    Attributes:
        whole: float32 [n, d].
        crops: float32 [n, d], of the lesion; rows without a known box are meaningless.
        has_crop: bool [n].
        labels: int64 [n].
        devices: str [n], "" where unknown.
    """

    whole: NDArray[np.float32]
    crops: NDArray[np.float32]
    has_crop: NDArray[np.bool_]
    labels: NDArray[np.int64]
    devices: NDArray[np.str_]


def describe(images: LabelledImages, device: torch.device = CPU) -> Described:
    """Features of at most `MOST` pictures, computed on a device."""
    some = images.take(np.sort(np.random.default_rng(0).permutation(len(images))[:MOST]))
    has_crop = np.asarray((np.isfinite(some.boxes) & (some.boxes > (-np.inf, -np.inf, 0, 0))).all(axis=1))
    whole = features.pooled(some.images, device)
    cropped = np.zeros_like(whole)
    cropped[has_crop] = features.pooled(crops(some.images[has_crop], some.boxes[has_crop]), device)
    return Described(whole, cropped, has_crop, some.labels, some.devices)


def distances(
    real: Described,
    synthetic: Described,
    rows: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
) -> dict[str, dict[str, float] | None]:
    """Distances of whole pictures and of lesion crops.

    Args:
        real: one side.
        synthetic: the other.
        rows: which pictures of each side; None takes all.

    Returns:
        ``whole`` and ``lesion_crop``, each the fields of `Distances`, or None where a side is too small.
    """
    one, two = rows or tuple(np.ones(len(side.labels), np.bool_) for side in (real, synthetic))
    sides = {
        WHOLE: (real.whole[one], synthetic.whole[two]),
        LESION_CROP: (real.crops[one & real.has_crop], synthetic.crops[two & synthetic.has_crop]),
    }
    return {
        name: compare(*both).as_json() if min(map(len, both)) > NEIGHBOURS else None for name, both in sides.items()
    }


def crops(images: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lesion boxes with a margin, brought to the size of the pictures; the whole picture where no box is known.

    Args:
        images: float32 [n, S, S].
        boxes: float32 [n, 4], x, y, w, h in fractions; NaN where unknown.

    Returns:
        float32 [n, S, S].
    """
    size = images.shape[1]
    out = np.empty_like(images)
    for i, (image, box) in enumerate(zip(images, boxes, strict=True)):
        x, y, w, h = (0.0, 0.0, 1.0, 1.0) if np.isnan(box).any() else box.tolist()
        left, top = (max(0, int((a - CROP_MARGIN * b) * size)) for a, b in ((x, w), (y, h)))
        right, bottom = (min(size, int(np.ceil((a + (1 + CROP_MARGIN) * b) * size))) for a, b in ((x, w), (y, h)))
        out[i] = to_grid(image[top : max(bottom, top + 1), left : max(right, left + 1)], size)
    return out
