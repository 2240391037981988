"""Per-patient gradients of any model made of supported leaves, clipped and summed over integers.

Neighbouring relation: add or remove one patient. The sum's L2 sensitivity is bounded by
``Grid(clip_norm, noise_multiplier, dimension + 1).sensitivity`` grid steps: each patient's contribution is a vector of
the trained gradient (mean over that patient's K draws) and one loss coordinate, of joint norm at most C.

The gradient's share of C is sqrt(1 - s^2), the loss coordinate's is s (`LOSS_SHARE`): the loss is clipped to
[0, `LOSS_CAP`] and scaled to [0, s C], so its noisy mean stays faithful however hard the gradient is clipped.

Nothing here is private by itself: sums leave this room only through `sonoshare_privacy.PatientDP`, which noises
and charges them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Final, Self

import torch
from torch import nn
from torch.nn import Parameter

from sonoshare_privacy.patient_gradients.buffer import (
    MOST_PATIENTS,
    NORM_SLACK,
    ClipMode,
    PatientBuffer,
    add_rounded_sum,
    clip_factors,
    row_norms,
)
from sonoshare_privacy.patient_gradients.leaves import leaf_kind, per_patient_forward
from sonoshare_shared.errors import ModelError

Batch = Mapping[str, torch.Tensor]
Loss = Callable[[Batch], torch.Tensor]

LOSS_SHARE: Final = 0.2  # s: the gradient keeps 98 % of the clip norm
LOSS_CAP: Final = 2.0  # twice the loss of a v-prediction that knows nothing

_CROSS_PATIENT: Final = (nn.modules.batchnorm._BatchNorm,)  # noqa: SLF001  the base of all batch norms


class PatientGradients:
    """Records per-patient gradients while it is entered; leaves the model as it was when it is left.

    Args:
        model: the model whose forward the loss runs; put on its device before.
        parameters: trained parameters by name. All others are frozen while entered.
        draws: K, rows of the batch per patient.
        clip_norm: C, bound of a patient's joint contribution.
        clip_mode: ``clip`` or ``normalise``.
        memory_limit: bytes that the buffer of per-patient gradients may take; sets the patients per chunk.
        autocast: dtype in which the loss's forward computes; None keeps the parameters'.

    Raises:
        ModelError: a trained parameter is not a supported leaf's, a batch norm is present, or a dtype is refused.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, Parameter],
        *,
        draws: int,
        clip_norm: float,
        clip_mode: ClipMode,
        memory_limit: int = 96 << 20,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.model, self.parameters = model, dict(parameters)
        self.autocast = autocast
        self.draws, self.clip_norm, self.clip_mode = draws, clip_norm, clip_mode
        self.buffer = PatientBuffer(self.parameters)
        self.rows = 0
        self.anchor = torch.zeros((), requires_grad=True, dtype=self.buffer.dtype, device=self.buffer.device)
        per_patient = self.buffer.dimension * self.buffer.dtype.itemsize
        self.chunk = max(1, min(MOST_PATIENTS, memory_limit // per_patient))
        self._leaves = self._admit()
        self._required: list[tuple[Parameter, bool]] = []

    @property
    def dimension(self) -> int:
        """Number of trained numbers, without the loss coordinate."""
        return self.buffer.dimension

    def chunks(self, patients: Sequence[int]) -> list[Sequence[int]]:
        """Split a sample into as few chunks as the memory limit allows, of nearly equal size."""
        count = -(-len(patients) // self.chunk)
        bounds = [len(patients) * index // max(1, count) for index in range(count + 1)]
        return [patients[start:end] for start, end in pairwise(bounds)]

    def _admit(self) -> list[tuple[nn.Module, type[nn.Module]]]:
        leaves, covered = [], set()
        for name, module in self.model.named_modules():
            if isinstance(module, _CROSS_PATIENT) or getattr(module, "track_running_stats", False):
                raise ModelError(
                    f"{name} is a {type(module).__name__}: it mixes patients", remedy="use GroupNorm instead"
                )
            own = [parameter for parameter in module.parameters(recurse=False) if parameter in self.buffer]
            if own:
                leaves.append((module, leaf_kind(module, name)))
                covered.update(own)
        for name, parameter in self.parameters.items():
            if parameter not in covered:
                raise ModelError(f"parameter {name} is in no leaf of this model", remedy="train the model's own")
        return leaves

    def __enter__(self) -> Self:
        for module, _ in self._leaves:
            if "forward" in vars(module):
                raise ModelError(
                    f"a {type(module).__name__} already has a replaced forward", remedy="remove other hooks first"
                )
        self._required = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        for parameter, _ in self._required:
            parameter.requires_grad_(False)  # autograd must not compute the batch's weight gradient
        for module, kind in self._leaves:
            module.forward = per_patient_forward(module, kind, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for module, _ in self._leaves:
            vars(module).pop("forward", None)
        for parameter, required in self._required:
            parameter.requires_grad_(required)
        self.buffer.free()

    def rows_of(self, batch: Batch, loss: Loss) -> tuple[torch.Tensor, torch.Tensor]:
        """One forward and one backward over a chunk of patients.

        Args:
            batch: tensors whose first dimension is patients * K, ordered by patient.
            loss: maps the batch to one loss per draw, [patients * K].

        Returns:
            Per-patient gradients [P, D] (a view that the next call overwrites) and mean losses, float64 [P].

        Raises:
            ModelError: the batch or the loss does not have patients * K rows.
        """
        count = next(iter(batch.values())).shape[0]
        if count == 0 or count % self.draws or any(value.shape[0] != count for value in batch.values()):
            raise ModelError("the batch is not patients times draws", remedy="give K rows per patient in every tensor")
        self.rows = count
        self.buffer.begin(count // self.draws)
        with torch.enable_grad():
            losses = self.evaluate(batch, loss)
            if losses.shape != (count,):
                raise ModelError(
                    f"the loss has shape {tuple(losses.shape)} instead of ({count},)", remedy="return one loss per draw"
                )
            if losses.requires_grad:
                torch.autograd.backward(losses.sum() / self.draws)
        means = losses.detach().double().view(-1, self.draws).mean(1)
        return self.buffer.finish(), means

    def evaluate(self, batch: Batch, loss: Loss) -> torch.Tensor:
        """The loss in the dtype of the training."""
        device = self.buffer.device.type
        with torch.autocast(device, dtype=self.autocast or torch.bfloat16, enabled=self.autocast is not None):
            return loss(batch)

    def add_clipped(self, batch: Batch, loss: Loss, step: float, out: torch.Tensor) -> None:
        """Add a chunk's clipped contributions to an integer sum.

        Args:
            batch: see `rows_of`.
            loss: see `rows_of`.
            step: of the grid.
            out: int64 [D + 1] in grid steps on the model's device, the loss coordinate last; added to in place.
        """
        rows, losses = self.rows_of(batch, loss)
        self.add_rows(rows, losses, step, out)

    def add_rows(self, rows: torch.Tensor, losses: torch.Tensor, step: float, out: torch.Tensor) -> None:
        """Clip contributions [P, D] and mean losses [P] and add them to an integer sum [D + 1]."""
        norms = row_norms(rows)
        bound = self.clip_norm * math.sqrt(1 - LOSS_SHARE**2)
        factors = clip_factors(norms, bound, self.clip_mode, NORM_SLACK[rows.dtype])
        add_rounded_sum(rows, factors, step, out[:-1])
        usable = torch.where(torch.isfinite(losses), losses, LOSS_CAP).clamp(0.0, LOSS_CAP)
        coordinate = usable * (LOSS_SHARE * self.clip_norm / LOSS_CAP / step)
        out[-1] += coordinate.round().sum().to(torch.int64)
