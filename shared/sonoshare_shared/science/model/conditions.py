"""What an image is conditioned on: its class, its scanner, the box of its lesion. Each can be absent.

Absent is written as label -1, scanner -1, or a box of NaN. An absent class or scanner becomes a learned
embedding; an absent box becomes an empty box map with the flag channel at 0. A box of width and height 0 is
*present* and says that there is no lesion.

Boxes are (x, y, w, h) as fractions of the image, x to the right and y down from the upper left corner.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_shared.errors import ModelError
from sonoshare_shared.science.model.profiles import Profile

ABSENT = -1


@dataclass(frozen=True)
class Condition:
    """Conditions of a batch of B images.

    Args:
        labels: int64 [B], class index, -1 where absent.
        scanners: int64 [B], scanner index, -1 where absent.
        boxes: float32 [B, 4], (x, y, w, h) as fractions of the image, NaN where absent.
    """

    labels: Tensor
    scanners: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(
        cls,
        labels: NDArray[np.integer],
        scanners: NDArray[np.integer] | None = None,
        boxes: NDArray[np.floating] | None = None,
    ) -> "Condition":
        """Build from arrays; what is not given is absent for every image."""
        count = len(labels)
        return cls(
            labels=torch.as_tensor(np.asarray(labels), dtype=torch.int64),
            scanners=torch.full((count,), ABSENT, dtype=torch.int64)
            if scanners is None
            else torch.as_tensor(np.asarray(scanners), dtype=torch.int64),
            boxes=torch.full((count, 4), torch.nan)
            if boxes is None
            else torch.as_tensor(np.asarray(boxes), dtype=torch.float32),
        )

    @classmethod
    def absent(cls, count: int) -> "Condition":
        """Nothing is known about any of ``count`` images."""
        return cls.of(np.full(count, ABSENT))

    def checked(self, profile: Profile) -> "Condition":
        """Return the condition itself if the profile can express it.

        Raises:
            ModelError: shapes or types disagree, or an index is beyond the profile's slots.
        """
        count = len(self.labels)
        shapes = (tuple(self.labels.shape), tuple(self.scanners.shape), tuple(self.boxes.shape))
        if shapes != ((count,), (count,), (count, 4)):
            raise ModelError(f"condition shapes disagree: {shapes}", remedy="one row per image in each field")
        for name, index, slots in (
            ("class", self.labels, profile.class_slots),
            ("scanner", self.scanners, profile.scanner_slots),
        ):
            if index.dtype != torch.int64:
                raise ModelError(f"{name} index is {index.dtype}", remedy="give int64")
            if count and not (int(index.min()) >= ABSENT and int(index.max()) < slots):
                raise ModelError(f"a {name} index is outside -1..{slots - 1}", remedy="use fewer categories")
        return self

    def __getitem__(self, rows: slice | Tensor) -> "Condition":
        return self._each(lambda field: field[rows])

    def to(self, device: torch.device) -> "Condition":
        """The same conditions on another device."""
        return self._each(lambda field: field.to(device))

    def without(self, name: str) -> "Condition":
        """The same with ``class``, ``scanner`` or ``box`` absent everywhere."""
        if name == "box":
            return replace(self, boxes=torch.full_like(self.boxes, torch.nan))
        if name == "scanner":
            return replace(self, scanners=torch.full_like(self.scanners, ABSENT))
        return replace(self, labels=torch.full_like(self.labels, ABSENT))

    def dropped(self, labels: Tensor, scanners: Tensor, boxes: Tensor) -> "Condition":
        """The same with fields absent in the rows where the bool [B] tensors are true."""
        return Condition(
            labels=torch.where(labels, ABSENT, self.labels),
            scanners=torch.where(scanners, ABSENT, self.scanners),
            boxes=torch.where(boxes[:, None], torch.nan, self.boxes),
        )

    def mirrored(self, rows: Tensor) -> "Condition":
        """The same with boxes mirrored left to right in the rows where bool [B] ``rows`` is true."""
        x, y, w, h = self.boxes.unbind(1)
        return replace(self, boxes=torch.stack((torch.where(rows, 1 - x - w, x), y, w, h), dim=1))

    @staticmethod
    def concatenate(parts: "list[Condition]") -> "Condition":
        """Conditions of several batches as those of one."""
        return Condition(
            labels=torch.cat([part.labels for part in parts]),
            scanners=torch.cat([part.scanners for part in parts]),
            boxes=torch.cat([part.boxes for part in parts]),
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        return Condition(change(self.labels), change(self.scanners), change(self.boxes))


def box_channels(boxes: Tensor, grid: int) -> Tensor:
    """Draw boxes on the token grid.

    Args:
        boxes: float32 [B, 4], NaN where absent.
        grid: side of the token grid.

    Returns:
        float32 [B, 2, grid, grid]: the share of each cell that the box covers (exact, so that a box is known
        finer than a cell), and 1 where a box is given, else 0.
    """
    present = ~torch.isnan(boxes).any(dim=1)
    x, y, w, h = torch.where(present[:, None], boxes, 0.0).unbind(1)
    edges = torch.arange(grid + 1, dtype=boxes.dtype, device=boxes.device) / grid
    across = _covered(edges, x, w)
    down = _covered(edges, y, h)
    cover = down[:, :, None] * across[:, None, :]
    flag = present.to(boxes.dtype)[:, None, None].expand_as(cover)
    return torch.stack((cover, flag), dim=1)


def _covered(edges: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Share [B, grid] of each interval between ``edges`` that [start, start + length] covers."""
    upper = torch.minimum(edges[None, 1:], (start + length)[:, None])
    lower = torch.maximum(edges[None, :-1], start[:, None])
    return (upper - lower).clamp_min(0) * (len(edges) - 1)
