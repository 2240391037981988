"""The training objective, one value per image.

The caller gives times and noise, so that a patient's several draws, a test and a validation all use this one
function. No row depends on another row.
"""

import torch
from torch import Tensor
from torch.nn import functional

from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.diffusion import add_noise, normalise, velocity
from sonoshare_shared.science.model.network import ConditionedUNet, Output

MASK_WEIGHT = 0.1


def denoising_loss(  # noqa: PLR0917 - positional as the privacy engine calls it
    model: ConditionedUNet,
    images: Tensor,
    masks: Tensor | None,
    condition: Condition,
    t: Tensor,
    noise: Tensor,
) -> Tensor:
    """Squared error of the velocity plus, where a mask is known, cross-entropy of the mask.

    Args:
        model: the network.
        images: float32 [B, 1, S, S], grey values 0..1.
        masks: [B, 1, S, S], bool, or float32 in 0..1 with NaN throughout the rows whose mask is not known; None
            where no row's is.
        condition: B rows.
        t: int64 [B], times 0..999.
        noise: float32 [B, 1, S, S], standard normal.

    Returns:
        float32 [B]: mean over pixels of (v_hat - v)**2 + 0.1 * cross-entropy (nats).
    """
    x0 = normalise(images)
    output: Output = model(add_noise(x0, noise, t), t, condition)
    loss: Tensor = (output.v - velocity(x0, noise, t)).square().mean(dim=(1, 2, 3))
    return loss if masks is None else loss + MASK_WEIGHT * mask_entropy(output.mask_logits, masks.to(images.dtype))


def mask_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of masks (floats), nats, [B]: mean over pixels, 0 in rows whose mask is not known (NaN)."""
    known = ~torch.isnan(masks)
    entropy = functional.binary_cross_entropy_with_logits(logits, torch.where(known, masks, 0.0), reduction="none")
    found: Tensor = torch.where(known, entropy, 0.0).mean(dim=(1, 2, 3))
    return found
