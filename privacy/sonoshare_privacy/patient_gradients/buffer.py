"""One row of numbers per patient: the flat buffer, its norms, and the clipped sum over integers.

Shapes: P places of a chunk, each for one patient, D trained numbers. P is fixed: a chunk with fewer patients has the
same shape, because shapes choose kernels and kernels choose last bits. The buffer is [P, D] in the parameters' dtype
(float32 or float64); norms are float64; the clipped sum is int64 in units of a
`sonoshare_privacy.mechanisms.gaussian.Grid`'s step.

Why integers: each patient's clipped contribution is rounded to the grid *before* it is added, and integers below
2**53 add exactly in float64. So a patient's influence on the sum is their own rounded vector and nothing else, in
any order, chunking or sharding; its norm is bounded by the grid's sensitivity.
"""

import math
from collections.abc import Mapping
from typing import Final, Literal

import torch
from torch.nn import Parameter

from sonoshare_shared.errors import ModelError

ClipMode = Literal["clip", "normalise"]

# Relative error of a norm, which the clip leaves free. float32: 128 squares added one after the other are off by at
# most 128 * 2**-24, half of it after the root; sums of blocks are float64. It costs four millionths of C.
NORM_SLACK: Final = {torch.float32: 4e-6, torch.float64: 1e-12}
MOST_PATIENTS: Final = 256  # of a chunk: 256 contributions of 2**44 steps add exactly in float64
_NORM_BLOCK: Final = 128
_ALIGNED: Final = 16  # numbers of a row's stride: 64 bytes of float32
_CPU: Final = "cpu"
_SUM_BYTES_ON_CPU: Final = 1 << 20  # float64 scratch of one block of columns: stays in the second-level cache
# On a GPU a block is six kernels: 27 million numbers in blocks of the cache's size are 160,000 of them, most of a
# second of starting kernels.
_SUM_BYTES_ON_GPU: Final = 128 << 20
_SMALLEST_NORM: Final = 1e-60  # below, a normalised contribution is left at zero; float32's least number is 1.4e-45
# A row of such root mean square or more loses less than 1e-6 of its squared norm to squares below the dtype's range.
_TRUSTED_RMS: Final = {torch.float32: 1e-15, torch.float64: 1e-150}
_LARGEST_NORM: Final = 1e150  # float32 reaches 1e44; a float64 row above counts as not finite


class PatientBuffer:
    """Rows of per-patient gradients with one column range for each trained parameter.

    Args:
        parameters: trained parameters by name; the order of the columns.
        places: P, rows of every chunk.

    Raises:
        ModelError: there is none, or dtypes differ or are neither float32 nor float64.
    """

    def __init__(self, parameters: Mapping[str, Parameter], places: int) -> None:
        if not parameters:
            raise ModelError("no parameter is trained", remedy="name the parameters to train")
        if not 1 <= places <= MOST_PATIENTS:
            raise ModelError(f"{places} places in a chunk", remedy=f"take between 1 and {MOST_PATIENTS}")
        first = next(iter(parameters.values()))
        for name, parameter in parameters.items():
            if parameter.dtype not in {torch.float32, torch.float64} or parameter.dtype != first.dtype:
                raise ModelError(
                    f"parameter {name} has dtype {parameter.dtype}",
                    remedy="keep trained parameters in float32 (autocast may compute in bfloat16)",
                )
            if parameter.device != first.device:
                raise ModelError(f"parameter {name} is on another device", remedy="keep the model on one device")
        self.dtype, self.device, self.patients = first.dtype, first.device, places
        self._columns: dict[torch.Tensor, tuple[int, int]] = {}
        end = 0
        for parameter in parameters.values():
            if parameter in self._columns:
                raise ModelError("a parameter is named twice", remedy="name each trained parameter once")
            self._columns[parameter] = (end, end + parameter.numel())
            end += parameter.numel()
        self.dimension = end
        self._rows: torch.Tensor | None = None
        self._written: set[torch.Tensor] = set()

    def __contains__(self, parameter: object) -> bool:
        return parameter in self._columns

    def begin(self) -> None:
        """Forget the last chunk."""
        self._written.clear()
        if self._rows is None:
            # Rows begin at the same alignment, so that no kernel could treat places differently for that.
            stride = -(-self.dimension // _ALIGNED) * _ALIGNED
            whole = torch.empty(self.patients, stride, dtype=self.dtype, device=self.device)
            self._rows = whole[:, : self.dimension]

    def free(self) -> None:
        """Release the memory."""
        self._rows = None

    def view(self, parameter: torch.Tensor) -> torch.Tensor:
        """The chunk's columns of a parameter, [P, *parameter.shape]; a view.

        Raises:
            ModelError: no chunk has begun.
        """
        if self._rows is None:
            raise ModelError("no chunk is being computed", remedy="enter the engine and compute one")
        start, end = self._columns[parameter]
        return self._rows[:, start:end].view(self.patients, *parameter.shape)

    def claim(self, parameter: torch.Tensor) -> bool:
        """Whether the caller is the first of this chunk to write these columns (and so overwrites)."""
        first = parameter not in self._written
        self._written.add(parameter)
        return first

    def add(self, parameter: torch.Tensor, gradient: torch.Tensor) -> None:
        """File per-patient gradients [P, *shape]; a module used again accumulates."""
        columns = self.view(parameter)
        if self.claim(parameter):
            columns.copy_(gradient.reshape(columns.shape))
        else:
            columns.add_(gradient.reshape(columns.shape))

    def finish(self) -> torch.Tensor:
        """The chunk's rows [P, D]; parameters that took no part in the loss are zero."""
        for parameter in self._columns.keys() - self._written:
            self.view(parameter).zero_()
        self._written.update(self._columns)
        if self._rows is None:
            raise ModelError("no chunk is being computed", remedy="enter the engine and compute one")
        return self._rows


def row_norms(rows: torch.Tensor) -> torch.Tensor:
    """L2 norm of each row, float64 [P], relative error below `NORM_SLACK` of its dtype whatever its size.

    Each row's norm depends on that row and on the *shape* of ``rows`` only. A row whose squares come near the limits of
    its dtype (gradients of 1e-20 are 0 when squared in float32) is taken again by itself, in float64 and scaled.

    ``tensor.norm()`` in float32 over millions of numbers is off by 1e-4 and would break the clip.
    """
    whole = rows.shape[1] // _NORM_BLOCK * _NORM_BLOCK
    blocks = torch.linalg.vector_norm(rows[:, :whole].reshape(len(rows), -1, _NORM_BLOCK), dim=2)
    norms: torch.Tensor = (blocks.double().square().sum(1) + rows[:, whole:].double().square().sum(1)).sqrt()
    trusted = math.sqrt(rows.shape[1]) * _TRUSTED_RMS[rows.dtype]
    for row in torch.nonzero(~((norms >= trusted) & (norms <= _LARGEST_NORM))).flatten().tolist():
        norms[row] = _scaled_norm(rows[row])
    return norms


def _scaled_norm(row: torch.Tensor) -> torch.Tensor:
    """Norm of one row [D] in float64 that neither under- nor overflows; NaN or infinity where the row holds one."""
    wide = row.double()
    largest = wide.abs().max()
    if not bool(torch.isfinite(largest)) or float(largest) == 0:
        return largest
    scaled: torch.Tensor = torch.linalg.vector_norm(wide / largest) * largest
    return scaled


def clip_factors(norms: torch.Tensor, bound: float, mode: ClipMode, slack: float) -> torch.Tensor:
    """Factor of each patient such that factor * norm is at most ``bound`` whatever the rounding, float64 [P].

    A norm that is not finite, or above 1e150, gives factor 0: the patient contributes nothing, which is within the
    bound too.
    """
    safe = bound * (1 - slack)
    factors = safe / norms.clamp_min(_SMALLEST_NORM)
    factors = factors.clamp(max=1.0) if mode == "clip" else torch.where(norms > _SMALLEST_NORM, factors, 0.0)
    return torch.where(norms <= _LARGEST_NORM, factors, 0.0)


def add_rounded_sum(rows: torch.Tensor, factors: torch.Tensor, step: float, out: torch.Tensor) -> torch.Tensor:
    """Add every row, scaled and rounded to the grid, to an integer sum.

    Scaling and rounding treat every number by itself and are exact or correctly rounded, and integers add exactly: what
    a row adds depends on that row, its factor and the step alone.

    Args:
        rows: [P, D], P at most `MOST_PATIENTS`.
        factors: float64 [P]; a factor of 0 leaves the row out, even if it holds NaN.
        step: of the grid.
        out: int64 [D], in grid steps; added to in place.

    Returns:
        float64 [P]: squared L2 norm of what each row added, in grid steps, relative error below 1e-12.
    """
    squares = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    kept = factors > 0
    if not bool(kept.all()):
        rows, factors = rows[kept], factors[kept]
    if rows.shape[0] == 0:
        return squares
    scale = (factors / step).unsqueeze(1)
    block_bytes = _SUM_BYTES_ON_CPU if rows.device.type == _CPU else _SUM_BYTES_ON_GPU
    width = max(1024, block_bytes // 8 // rows.shape[0])
    scratch = torch.empty(rows.shape[0], width, dtype=torch.float64, device=rows.device)
    found = torch.zeros(rows.shape[0], dtype=torch.float64, device=rows.device)
    ones = torch.ones(rows.shape[0], dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[1], width):
        block = rows[:, start : start + width]
        part = scratch[:, : block.shape[1]]
        part.copy_(block)
        part.mul_(scale).round_()
        found += torch.linalg.vector_norm(part, dim=1).square_()
        out[start : start + width] += torch.mv(part.t(), ones).to(torch.int64)
    squares[kept] = found
    return squares
