"""In which arithmetic a network computes: chosen by the plan, never by a library's default.

| precision | products and convolutions of float32 numbers | the forward pass |
|---|---|---|
| ``float32`` | IEEE float32: 24 bits | as its tensors are |
| ``tf32`` | on NVIDIA's tensor cores with factors of 11 bits, summed in float32; elsewhere as ``float32`` | the same |
| ``bfloat16`` | IEEE float32 | linear layers and convolutions with 8 bits, norms and losses in float32 |

Weights, gradients as they are filed, norms and noise are float32 or float64 in each. Libraries' defaults differ: torch
computes products of float32 on a GPU in float32 and convolutions in TF32, and lets either be changed from anywhere.

Promises: inside `computing_in` the flags are those of the table, kernels are chosen by shape alone (no trial runs) and
those of cuDNN add in a fixed order; outside they are as before, also after an error. The flags belong to the whole
process: two threads must not compute in two precisions at once. Not promised: that every kernel of a GPU gives the same
bits twice; where the promise to patients needs it, it is looked at (``sonoshare_privacy.patient_gradients.selfcheck``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from sonoshare_shared.protocol.documents.plan import Precision

FLOAT32: Final[Precision] = "float32"
TF32: Final[Precision] = "tf32"
BFLOAT16: Final[Precision] = "bfloat16"


@contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Compute products and convolutions in a precision; what enters a network's forward pass says `forward_in`."""
    tensor_cores = precision == TF32
    before = torch.get_float32_matmul_precision()
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tensor_cores):
        torch.set_float32_matmul_precision("high" if tensor_cores else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def forward_in(precision: Precision, device: torch.device) -> torch.autocast:
    """The context of a forward pass: bfloat16 where that is the precision, else the tensors' own type."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == BFLOAT16)
