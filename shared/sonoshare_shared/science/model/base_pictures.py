"""Pictures that a base model is trained on, with what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from sonoshare_shared.science.model.conditions import ABSENT, Condition

CLASSES: Final = ("benign", "malignant", "normal")
"""Classes of the base, in the order of its class slots."""
SIMULATED_SCANNER_SLOT: Final = 4


@dataclass(frozen=True)
class BasePictures:
    """n pictures of side S, on one device.

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

    def to(self, device: torch.device) -> "BasePictures":
        """The same pictures on another device."""
        return BasePictures(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    def first(self, count: int) -> "BasePictures":
        """The first pictures."""
        return BasePictures(**{name: tensor[:count] for name, tensor in vars(self).items()})

    def conditions(self, rows: Tensor) -> Condition:
        """Conditions under which the base model learns some of these pictures."""
        scanners = self.scanners[rows]
        return Condition(
            labels=self.labels[rows],
            scanners=torch.where(scanners < 0, ABSENT, scanners + SIMULATED_SCANNER_SLOT),
            boxes=self.boxes[rows],
        )


def joined(parts: Sequence[BasePictures]) -> BasePictures:
    """Several sets of one side as one, in order."""
    return BasePictures(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})
