"""Pictures of one grey level that a base model could learn from."""

import torch

from sonoshare_shared.science.model.base_batches import (
    PUBLIC_SCALE,
)
from sonoshare_shared.science.model.base_pictures import BasePictures
from sonoshare_shared.science.model.conditions import ABSENT
from sonoshare_shared.science.model.public_images import PublicImages, Source

SIDE = 16


def pictures(count: int, side: int, level: int, box: tuple[float, ...] = (0.25, 0.25, 0.5, 0.5)) -> BasePictures:
    """Pictures of one grey level with a brighter square in the box."""
    image = torch.full((side, side), level, dtype=torch.uint8)
    x, y, w, h = (round(v * side) for v in box)
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[y : y + h, x : x + w] = True
    image[mask] = level + 20
    return BasePictures(
        images=image.expand(count, side, side).clone(),
        masks=mask.expand(count, side, side).clone(),
        boxes=torch.tensor([box]).expand(count, 4).clone(),
        labels=torch.ones(count, dtype=torch.int64),
        scanners=torch.full((count,), ABSENT),
        has_mask=torch.ones(count, dtype=torch.bool),
    )


def source(name: str, count: int, level: int, weight: float) -> PublicImages:
    """Public pictures of a source of that name, twice as large as a base sees them."""
    said = Source(name, "a licence", None, count, count, name, weight)
    return PublicImages(said, pictures(count, PUBLIC_SCALE * SIDE, level))
