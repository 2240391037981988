"""Per-patient gradients of any model made of supported leaves, clipped and summed over integers.

Neighbouring relation: add or remove one patient. The sum's L2 sensitivity is bounded by
``Grid(clip_norm, noise_multiplier, dimension + 1).sensitivity`` grid steps: each patient's contribution is a vector of
the trained gradient (mean over that patient's K draws) and one loss coordinate, of joint norm at most C. The bound is
proved (``docs/proofs/clip-and-round.md``) and every contribution is measured against it, as the integers that it is.

A patient's contribution depends on that patient's rows alone (``docs/proofs/fixed-chunks.md``): every chunk has the
same number of places, places without a patient hold public rows and are left out of the sum, and the start-up check
compares what the very model gives in different places and different company, bit by bit.

The gradient's share of C is sqrt(1 - s^2), the loss coordinate's is s (`LOSS_SHARE`): the loss is clipped to
[0, `LOSS_CAP`] and scaled to [0, s C], so its noisy mean stays faithful however hard the gradient is clipped.

Nothing here is private by itself: sums leave this room only through `sonoshare_privacy.step_release`, which noises
and charges them.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

import torch
from torch import nn
from torch.nn import Parameter

from sonoshare_privacy.mechanisms.gaussian import Grid
from sonoshare_privacy.patient_gradients.buffer import (
    NORM_SLACK,
    ClipMode,
    PatientBuffer,
    add_rounded_sum,
    clip_factors,
    row_norms,
)
from sonoshare_privacy.patient_gradients.chunk import Batch, fill_places, patients_in
from sonoshare_privacy.patient_gradients.leaves import leaf_kind, per_patient_forward
from sonoshare_shared.errors import ContributionError, ModelError
from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.precision import FLOAT32, computing_in, forward_in

Loss = Callable[[Batch], torch.Tensor]

LOSS_SHARE: Final = 0.2  # s: the gradient keeps 98 % of the clip norm
LOSS_CAP: Final = 2.0  # twice the loss of a v-prediction that knows nothing
_MEASURED: Final = 1e-10  # relative error, and more, with which the norm of a contribution's integers is measured

_CROSS_PATIENT: Final = (nn.modules.batchnorm._BatchNorm,)  # noqa: SLF001  the base of all batch norms


class PatientGradients:
    """Records per-patient gradients while it is entered; leaves the model as it was when it is left.

    Args:
        model: the model whose forward the loss runs; put on its device before.
        parameters: trained parameters by name. All others are frozen while entered.
        draws: K, rows of the batch per patient.
        clip_norm: C, bound of a patient's joint contribution.
        clip_mode: ``clip`` or ``normalise``.
        places: patients of a chunk; the same for every chunk of a training (`places_of_chunk`).
        precision: in which forward and backward compute (`sonoshare_shared.science.precision`); rows are float32 in
            each, norms and sums wider.

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
        places: int,
        precision: Precision = FLOAT32,
    ) -> None:
        self.model, self.parameters = model, dict(parameters)
        self.precision = precision
        self.draws, self.clip_norm, self.clip_mode = draws, clip_norm, clip_mode
        self.buffer = PatientBuffer(self.parameters, places)
        self.rows = places * draws
        self.anchor = torch.zeros((), requires_grad=True, dtype=self.buffer.dtype, device=self.buffer.device)
        self._leaves = self._admit()
        self._required: list[tuple[Parameter, bool]] = []
        self._arithmetic = ExitStack()

    @property
    def places(self) -> int:
        """Patients of a chunk."""
        return self.buffer.patients

    @property
    def dimension(self) -> int:
        """Number of trained numbers, without the loss coordinate."""
        return self.buffer.dimension

    def chunks(self, patients: int) -> list[slice]:
        """Parts of a sample of so many patients, of at most `places` each."""
        return [slice(start, start + self.places) for start in range(0, patients, self.places)]

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
        self._arithmetic.enter_context(computing_in(self.precision))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for module, _ in self._leaves:
            vars(module).pop("forward", None)
        for parameter, required in self._required:
            parameter.requires_grad_(required)
        self._arithmetic.close()
        self.buffer.free()

    def rows_of(self, batch: Batch, loss: Loss) -> tuple[torch.Tensor, torch.Tensor]:
        """One forward and one backward over a whole chunk.

        Args:
            batch: tensors whose first dimension is places * K, ordered by place.
            loss: maps the batch to one loss per draw, [places * K].

        Returns:
            Per-patient gradients [P, D] (a view that the next call overwrites) and mean losses, float64 [P].

        Raises:
            ModelError: the batch or the loss does not have places * K rows.
        """
        if not batch or any(value.shape[0] != self.rows for value in batch.values()):
            raise ModelError("the batch is not places times draws", remedy="give K rows per place in every tensor")
        self.buffer.begin()
        with torch.enable_grad():
            losses = self.evaluate(batch, loss)
            if losses.shape != (self.rows,):
                raise ModelError(
                    f"the loss has shape {tuple(losses.shape)} instead of ({self.rows},)",
                    remedy="return one loss per draw",
                )
            if losses.requires_grad:
                torch.autograd.backward(losses.sum() / self.draws)
        means = losses.detach().double().view(-1, self.draws).mean(1)
        return self.buffer.finish(), means

    def evaluate(self, batch: Batch, loss: Loss) -> torch.Tensor:
        """The loss in the precision of the training."""
        with forward_in(self.precision, self.buffer.device):
            return loss(batch)

    def factors(self, rows: torch.Tensor) -> torch.Tensor:
        """What each row [P, D] is multiplied with to be clipped, float64 [P]."""
        bound = self.clip_norm * math.sqrt(1 - LOSS_SHARE**2)
        return clip_factors(row_norms(rows), bound, self.clip_mode, NORM_SLACK[rows.dtype])

    def add_clipped(self, drawn: Batch, padding: Batch, loss: Loss, grid: Grid, out: torch.Tensor) -> None:
        """Add the clipped contributions of at most `places` patients to an integer sum.

        Args:
            drawn: K rows of each, all rows of one together.
            padding: K public rows, which fill the places that are left; nothing of them is added.
            loss: see `rows_of`.
            grid: of this mechanism.
            out: int64 [D + 1] in grid steps on the model's device, the loss coordinate last; added to in place.

        Raises:
            ContributionError: a contribution is larger than the grid's sensitivity; discard ``out``.
            ModelError: there are too many patients, their rows are not like the padding's, or the grid is another
                mechanism's.
        """
        rows, losses = self.rows_of(fill_places(drawn, padding, self.places), loss)
        self.add_rows(rows, losses, grid, out, count=patients_in(drawn, padding))

    def add_rows(
        self, rows: torch.Tensor, losses: torch.Tensor, grid: Grid, out: torch.Tensor, count: int | None = None
    ) -> None:
        """Clip contributions [P, D] and mean losses [P] and add the first ``count`` (all) to an integer sum [D + 1].

        Raises:
            ContributionError: a contribution, as integers, is larger than the grid's sensitivity; discard ``out``.
            ModelError: the grid is another mechanism's.
        """
        if grid.clip_norm != self.clip_norm or grid.dimension != self.dimension + 1:
            raise ModelError("the grid is not this mechanism's", remedy="make it from the same plan and model")
        squares = add_rounded_sum(rows[:count], self.factors(rows)[:count], grid.step, out[:-1])
        usable = torch.where(torch.isfinite(losses), losses, LOSS_CAP).clamp(0.0, LOSS_CAP)[:count]
        coordinate = (usable * (LOSS_SHARE * self.clip_norm / LOSS_CAP / grid.step)).round_()
        out[-1] += coordinate.sum().to(torch.int64)
        squares += coordinate.square()
        if not bool((squares.sqrt() <= grid.sensitivity * (1 - _MEASURED)).all()):
            raise ContributionError(
                "a contribution is larger than the noise was made for",
                remedy="do not release this training; report the model and the machine",
            )
