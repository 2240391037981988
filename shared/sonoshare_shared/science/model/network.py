"""The denoising network: a diffusers UNet on patches, conditioned on class, scanner and lesion box.

Images are cut into patches by pixel-unshuffle (an orthogonal rearrangement, so pixel noise is token noise). Class
and scanner embeddings are added to the time embedding; the box enters as two channels of the token grid. One
head predicts the velocity v, another the logits of the lesion mask.

Promised, because the privacy engine rests on it: every trained leaf is Linear, Conv2d, GroupNorm or Embedding, each
used once per forward pass; nothing mixes the rows of a batch (no BatchNorm), nothing is random (dropout 0).
`require_known_modules` checks the types. Memory formats contiguous and channels_last both work.
"""

from dataclasses import dataclass

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from sonoshare_shared.errors import ModelError
from sonoshare_shared.science.model.conditions import Condition, box_channels
from sonoshare_shared.science.model.profiles import Profile

BOX_CHANNELS = 2
# Small against the time embedding, so that training starts from "all conditions mean the same".
_EMBEDDING_STD = 0.02

_TRAINABLE_LEAVES = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.Embedding)
_FREE_LEAVES = frozenset({"SiLU", "Identity", "Timesteps"})


@dataclass(frozen=True)
class Output:
    """What the network says about noisy images.

    Args:
        v: float32 [B, 1, S, S], velocity (Salimans and Ho 2022), v = alpha * noise - sigma * image.
        mask_logits: float32 [B, 1, S, S], log-odds that a pixel belongs to the lesion.
    """

    v: Tensor
    mask_logits: Tensor


class ConditionedUNet(nn.Module):
    """UNet2DModel between pixel-unshuffle and pixel-shuffle, with three conditions that can each be absent."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile
        cells = profile.patch**2
        width = profile.channels[0]
        self.unet = UNet2DModel(
            sample_size=profile.grid,
            in_channels=cells + BOX_CHANNELS,
            out_channels=cells,
            layers_per_block=profile.layers,
            block_out_channels=profile.channels,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in profile.attention),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in profile.attention[::-1]),
            attention_head_dim=profile.head_channels,
            norm_num_groups=profile.norm_groups,
            class_embed_type="identity",
            dropout=0.0,
        )
        # The heads are ours, so that the image head can be adapted without the mask head.
        self.unet.conv_out = nn.Identity()
        self.conv_out = nn.Conv2d(width, cells, kernel_size=3, padding=1)
        self.mask_out = nn.Conv2d(width, cells, kernel_size=3, padding=1)
        embedding_width = 4 * width
        # The last row of each stands for "absent".
        self.class_embedding = nn.Embedding(profile.class_slots + 1, embedding_width)
        self.scanner_embedding = nn.Embedding(profile.scanner_slots + 1, embedding_width)
        for embedding in (self.class_embedding, self.scanner_embedding):
            nn.init.normal_(embedding.weight, std=_EMBEDDING_STD)

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Output:
        """Predict velocity and mask.

        Args:
            x: float32 [B, 1, S, S], normalised images with noise.
            t: int64 [B], diffusion times, 0..999.
            condition: B rows.
        """
        profile = self.profile
        tokens = functional.pixel_unshuffle(x, profile.patch)
        tokens = torch.cat((tokens, box_channels(condition.boxes, profile.grid)), dim=1)
        labels = torch.where(condition.labels < 0, profile.class_slots, condition.labels)
        scanners = torch.where(condition.scanners < 0, profile.scanner_slots, condition.scanners)
        embedding = self.class_embedding(labels) + self.scanner_embedding(scanners)
        features = self.unet(tokens, t, class_labels=embedding, return_dict=False)[0]
        return Output(
            v=functional.pixel_shuffle(self.conv_out(features), profile.patch),
            mask_logits=functional.pixel_shuffle(self.mask_out(features), profile.patch),
        )


def require_known_modules(model: nn.Module) -> None:
    """Refuse an architecture with a part whose privacy properties are not known.

    Raises:
        ModelError: a leaf module is neither one of the four trainable kinds nor free of parameters and of
            randomness; BatchNorm and dropout are such leaves.
    """
    for name, module in model.named_modules():
        if any(True for _ in module.children()):
            if any(True for _ in module.parameters(recurse=False)):
                raise ModelError(f"module {name!r} holds parameters beside its parts", remedy="use a known profile")
            continue
        if isinstance(module, nn.Dropout) and module.p == 0:
            continue
        kind = type(module)
        if kind not in _TRAINABLE_LEAVES and kind.__name__ not in _FREE_LEAVES:
            raise ModelError(
                f"module {name!r} of kind {kind.__name__} is not known to keep patients apart",
                remedy="use a known profile",
            )
