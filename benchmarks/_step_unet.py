"""The network that `benchmarks.dp_step` compares with Opacus on: a diffusers UNet on 32 px, in full or by low rank."""

import warnings
from collections.abc import Callable
from typing import Final

import torch
from torch import nn
from torch.nn import Parameter

from sonoshare_privacy.patient_gradients.chunk import Batch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from diffusers import UNet2DModel

ADAPTED: Final = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_shortcut")
RANK: Final = 8


class LowRank(nn.Module):
    """A frozen Linear or Conv2d plus a trained product of rank `RANK`, as PEFT builds it."""

    def __init__(self, base: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.base = base
        self.down: nn.Module
        self.up: nn.Module
        if isinstance(base, nn.Linear):
            self.down = nn.Linear(base.in_features, RANK, bias=False)
            self.up = nn.Linear(RANK, base.out_features, bias=False)
        else:
            shape = (base.kernel_size, base.stride, base.padding)
            self.down = nn.Conv2d(base.in_channels, RANK, *shape, bias=False)  # type: ignore[arg-type] # all of two
            self.up = nn.Conv2d(RANK, base.out_channels, 1, bias=False)
        nn.init.normal_(self.up.weight, std=0.02)

    def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
        """Base plus adapter."""
        total: torch.Tensor = self.base(x) + self.up(self.down(x))
        return total


def build(
    *, adapter: bool, size: int = 32, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, dict[str, Parameter]]:
    """A UNet and the parameters that are trained."""
    torch.manual_seed(0)
    channels = (64, 128, 128) if size == 32 else (32, 64)
    attention = len(channels) - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = UNet2DModel(
            sample_size=size,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=channels,
            down_block_types=("DownBlock2D", *["AttnDownBlock2D"] * attention),
            up_block_types=(*["AttnUpBlock2D"] * attention, "UpBlock2D"),
            attention_head_dim=32,
            num_class_embeds=3,
        )
    if adapter:
        model.requires_grad_(False)
        for name, module in list(model.named_modules()):
            if name.endswith(ADAPTED) and isinstance(module, nn.Linear | nn.Conv2d):
                parent, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(parent), leaf, LowRank(module))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model, {name: p for name, p in model.named_parameters() if p.requires_grad}


def make_batch(patients: int, draws: int, size: int = 32, dtype: torch.dtype = torch.float32) -> Batch:
    """Made-up rows, those of a patient together."""
    generator = torch.Generator().manual_seed(1)
    rows = patients * draws
    return {
        "x": torch.randn(rows, 1, size, size, generator=generator).to(dtype),
        "noise": torch.randn(rows, 1, size, size, generator=generator).to(dtype),
        "t": torch.randint(0, 1000, (rows,), generator=generator),
        "y": torch.randint(0, 3, (rows,), generator=generator),
    }


def loss_of(model: nn.Module) -> Callable[[Batch], torch.Tensor]:
    """Denoising loss of each row."""

    def loss(batch: Batch) -> torch.Tensor:
        output = model(batch["x"], batch["t"], class_labels=batch["y"]).sample
        value: torch.Tensor = (output - batch["noise"]).square().mean((1, 2, 3))
        return value

    return loss
