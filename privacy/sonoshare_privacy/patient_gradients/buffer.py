"""One row of numbers per patient: the flat buffer, its norms, and the clipped sum over integers.

Shapes: P patients of a chunk, D trained numbers. The buffer is [P, D] in the parameters' dtype (float32 or
float64); norms are float64; the clipped sum is int64 in units of a `sonoshare_privacy.mechanisms.gaussian.Grid`'s step.

Why integers: each patient's clipped contribution is rounded to the grid *before* it is added, and integers below
2**53 add exactly in float64. So a patient's influence on the sum is their own rounded vector and nothing else, in
any order, chunking or sharding; its norm is bounded by the grid's sensitivity.
"""

from collections.abc import Mapping
from typing import Final, Literal

import torch
from torch.nn import Parameter

from sonoshare_shared.errors import ModelError

ClipMode = Literal["clip", "normalise"]

# Relative error of a norm, which the clip leaves free: float32 squares are added in blocks of 256, these in float64.
NORM_SLACK: Final = {torch.float32: 1e-6, torch.float64: 1e-12}
MOST_PATIENTS: Final = 256  # of a chunk: 256 contributions of 2**44 steps add exactly in float64
_NORM_BLOCK: Final = 256
_SUM_BLOCK_BYTES: Final = 1 << 20  # float64 scratch of one block of columns: stays in the second-level cache
_SMALLEST_NORM: Final = 1e-30  # below, a normalised contribution is left at zero


class PatientBuffer:
    """Rows of per-patient gradients with one column range for each trained parameter.

    Args:
        parameters: trained parameters by name; the order of the columns.

    Raises:
        ModelError: there is none, or dtypes differ or are neither float32 nor float64.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        if not parameters:
            raise ModelError("no parameter is trained", remedy="name the parameters to train")
        first = next(iter(parameters.values()))
        for name, parameter in parameters.items():
            if parameter.dtype not in {torch.float32, torch.float64} or parameter.dtype != first.dtype:
                raise ModelError(
                    f"parameter {name} has dtype {parameter.dtype}",
                    remedy="keep trained parameters in float32 (autocast may compute in bfloat16)",
                )
            if parameter.device != first.device:
                raise ModelError(f"parameter {name} is on another device", remedy="keep the model on one device")
        self.dtype, self.device = first.dtype, first.device
        self._columns: dict[torch.Tensor, tuple[int, int]] = {}
        end = 0
        for parameter in parameters.values():
            if parameter in self._columns:
                raise ModelError("a parameter is named twice", remedy="name each trained parameter once")
            self._columns[parameter] = (end, end + parameter.numel())
            end += parameter.numel()
        self.dimension = end
        self._rows = torch.empty(0, end, dtype=self.dtype, device=self.device)
        self._written: set[torch.Tensor] = set()
        self.patients = 0

    def __contains__(self, parameter: object) -> bool:
        return parameter in self._columns

    def begin(self, patients: int) -> None:
        """Forget the last chunk and make room for the next."""
        if self._rows.shape[0] < patients:
            self._rows = torch.empty(0)  # release before allocating
            self._rows = torch.empty(patients, self.dimension, dtype=self.dtype, device=self.device)
        self.patients = patients
        self._written.clear()

    def free(self) -> None:
        """Release the memory."""
        self._rows = torch.empty(0, self.dimension, dtype=self.dtype, device=self.device)

    def view(self, parameter: torch.Tensor) -> torch.Tensor:
        """The chunk's columns of a parameter, [P, *parameter.shape]; a view."""
        start, end = self._columns[parameter]
        return self._rows[: self.patients, start:end].view(self.patients, *parameter.shape)

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
        return self._rows[: self.patients]


def row_norms(rows: torch.Tensor) -> torch.Tensor:
    """L2 norm of each row, float64 [P], relative error below `NORM_SLACK` of its dtype.

    ``tensor.norm()`` in float32 over millions of numbers is off by 1e-4 and would break the clip.
    """
    if rows.dtype == torch.float64:
        exact: torch.Tensor = torch.linalg.vector_norm(rows, dim=1)
        return exact
    whole = rows.shape[1] // _NORM_BLOCK * _NORM_BLOCK
    blocks = torch.linalg.vector_norm(rows[:, :whole].reshape(len(rows), -1, _NORM_BLOCK), dim=2)
    squares: torch.Tensor = blocks.double().square().sum(1) + rows[:, whole:].double().square().sum(1)
    return squares.sqrt()


def clip_factors(norms: torch.Tensor, bound: float, mode: ClipMode, slack: float = 1e-6) -> torch.Tensor:
    """Factor of each patient such that factor * norm is at most ``bound`` whatever the rounding, float64 [P].

    A norm that is not finite gives factor 0: the patient contributes nothing, which is within the bound too.
    """
    safe = bound * (1 - slack)
    factors = safe / norms.clamp_min(_SMALLEST_NORM)
    factors = factors.clamp(max=1.0) if mode == "clip" else torch.where(norms > _SMALLEST_NORM, factors, 0.0)
    return torch.where(torch.isfinite(norms), factors, 0.0)


def add_rounded_sum(rows: torch.Tensor, factors: torch.Tensor, step: float, out: torch.Tensor) -> None:
    """Add every row, scaled and rounded to the grid, to an integer sum.

    Args:
        rows: [P, D], P at most `MOST_PATIENTS`.
        factors: float64 [P]; a factor of 0 leaves the row out, even if it holds NaN.
        step: of the grid.
        out: int64 [D], in grid steps; added to in place.
    """
    kept = factors > 0
    if not bool(kept.all()):
        rows, factors = rows[kept], factors[kept]
    if rows.shape[0] == 0:
        return
    scale = (factors / step).unsqueeze(1)
    width = max(1024, _SUM_BLOCK_BYTES // 8 // rows.shape[0])
    scratch = torch.empty(rows.shape[0], width, dtype=torch.float64, device=rows.device)
    ones = torch.ones(rows.shape[0], dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[1], width):
        block = rows[:, start : start + width]
        part = scratch[:, : block.shape[1]]
        part.copy_(block)
        part.mul_(scale).round_()
        out[start : start + width] += torch.mv(part.t(), ones).to(torch.int64)
