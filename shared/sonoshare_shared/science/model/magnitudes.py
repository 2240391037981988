"""How large weights may be: one public rule for every base and adapter, applied where they are loaded.

A network whose weights are of ordinary size computes gradients of ordinary size. Weights of 1e5 or 1e-22 are not how
networks are trained; they are how somebody would drive arithmetic to where its last bits matter. The privacy engine
does not rest on this rule (its bounds hold for any weights), and it costs no honest study anything: the largest number
in the shipped bases is 2.8, the largest root mean square of a tensor 1.3.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from sonoshare_shared.errors import ModelError

LARGEST_WEIGHT: Final = 64.0
"""Of any number's absolute value."""
LARGEST_RMS: Final = 16.0
"""Of any tensor's root mean square."""


def require_ordinary(state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are too large or not finite.

    Args:
        state: floating-point tensors by name.

    Raises:
        ModelError: names the first tensor that breaks the rule.
    """
    for name in sorted(state):
        tensor = state[name].detach().to(torch.float64)
        if tensor.numel() == 0:
            continue
        # Written so that NaN fails.
        if not (float(tensor.abs().max()) <= LARGEST_WEIGHT and float(tensor.square().mean().sqrt()) <= LARGEST_RMS):
            raise ModelError(
                f"tensor {name[:80]!r} holds numbers that no training gives",
                remedy=f"weights must be within {LARGEST_WEIGHT:g}, each tensor's root mean square {LARGEST_RMS:g}",
            )
