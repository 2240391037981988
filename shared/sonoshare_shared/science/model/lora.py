"""Low-rank layers beside the base's attention and convolutions (Hu et al., ICLR 2022): the base stays as it is.

A `LowRank` holds the frozen layer and two trained leaves: ``down`` to `RANK` channels (for a convolution with its
kernel, stride and padding) and ``up`` back, which starts at zero, so that adding the layers changes nothing. Both are
ordinary Linear or Conv2d leaves: the privacy engine's rules for them hold. ``down`` starts from a generator seeded by
the layer's name: two sides that add the layers have the same numbers.

``merged`` folds the product into the weights; outputs agree up to float32 rounding.
"""

import hashlib
import math
from typing import Final

import torch
from torch import Tensor, nn

from sonoshare_shared.errors import ModelError
from sonoshare_shared.science.model.network import ConditionedUNet

RANK: Final = 4
ADAPTED: Final = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_shortcut")
PARTS: Final = (".down.weight", ".up.weight")


class LowRank(nn.Module):
    """A frozen Linear or Conv2d plus a trained product of rank `RANK`.

    Args:
        base: the layer.
        name: of the layer in the model; seeds ``down``.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d, name: str) -> None:
        super().__init__()
        self.base = base
        self.down: nn.Linear | nn.Conv2d
        self.up: nn.Linear | nn.Conv2d
        if isinstance(base, nn.Linear):
            self.down = nn.Linear(base.in_features, RANK, bias=False)
            self.up = nn.Linear(RANK, base.out_features, bias=False)
        else:
            kernel, stride, padding = base.kernel_size, base.stride, base.padding
            self.down = nn.Conv2d(base.in_channels, RANK, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
            self.up = nn.Conv2d(RANK, base.out_channels, 1, bias=False)
        seed = int.from_bytes(hashlib.sha256(f"sonoshare lora {name}".encode()).digest()[:8]) >> 1
        spread = 1 / math.sqrt(self.down.weight[0].numel())
        with torch.no_grad():
            self.down.weight.normal_(0, spread, generator=torch.Generator().manual_seed(seed))
            self.up.weight.zero_()
        self.to(base.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """Base plus product."""
        total: Tensor = self.base(x) + self.up(self.down(x))
        return total

    def product(self) -> Tensor:
        """What the product adds to the base's weight, in its shape."""
        down, up = self.down.weight, self.up.weight
        if down.dim() == 2:
            return up @ down
        return torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)


def has_low_rank(model: ConditionedUNet) -> bool:
    """Whether the layers have been added."""
    return any(isinstance(part, LowRank) for part in model.modules())


def add_low_rank(model: ConditionedUNet) -> None:
    """Add low-rank layers, in place; the model computes what it did before.

    Raises:
        ModelError: they have been added before.
    """
    if has_low_rank(model):
        raise ModelError("the model has low-rank layers", remedy="merge them, or load the base again")
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.Linear | nn.Conv2d) and name.endswith(ADAPTED):
            _put(model, name, LowRank(part, name))


def remove_low_rank(model: ConditionedUNet) -> None:
    """Take the low-rank layers out again, in place; what they learned is lost."""
    for name, part in list(model.named_modules()):
        if isinstance(part, LowRank):
            _put(model, name, part.base)


def merge_low_rank(model: ConditionedUNet) -> None:
    """Fold every product into its base and take the layers out, in place."""
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, LowRank):
                part.base.weight.add_(part.product())
    remove_low_rank(model)


def _put(model: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, part)
