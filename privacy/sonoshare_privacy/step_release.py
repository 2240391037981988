"""The step release: paid for when it is made, it gives one noised sum of patients' contributions for each step.

Neighbouring relation: add or remove one patient, with all of their images.

Each call of `StepRelease.next` gives one `NoisedSum`: integers, the sum over a fresh Poisson sample of every sampled
patient's clipped and rounded contribution under the model as it stands now, plus fresh discrete Gaussian noise. Given
what was released before, that is one step of ``SampledGaussian(rate, noise_multiplier, 1)``, whatever was done with
earlier sums in between: the model may have been changed by them, here or elsewhere.

What cannot be done with it: release a sum before its charge is on disk; release more sums than were charged, also not
by copying, pickling, forking or calling from two threads; release a sum without noise, or with noise that repeats;
skip an empty sample. A call that fails has used its step up.

What is assumed: ``draw`` and ``loss`` use patients' data only for the patient they are asked for; model and mechanism
are public (chosen without looking at these patients, or by releases that were charged); the hospital's machine is
honest; how long a step takes is not observed.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn

import torch

from sonoshare_privacy.accounting import SampledGaussian
from sonoshare_privacy.budget import ChargeRequest, Reservation
from sonoshare_privacy.canaries import Planted
from sonoshare_privacy.ledger import Ledger
from sonoshare_privacy.mechanisms.draw_words import fresh_keys
from sonoshare_privacy.mechanisms.gaussian import Grid, add_gaussian_integers
from sonoshare_privacy.mechanisms.sampling import poisson_sample
from sonoshare_privacy.patient_gradients.chunk import Batch
from sonoshare_privacy.patient_gradients.per_patient import LOSS_CAP, LOSS_SHARE, Loss, PatientGradients
from sonoshare_privacy.ranks import Ranks
from sonoshare_shared.errors import InputError, LedgerError
from sonoshare_shared.protocol.documents.charge import Gaussian
from sonoshare_shared.protocol.documents.plan import Mechanism

Draw = Callable[[torch.Tensor, torch.Tensor], Batch]


@dataclass(frozen=True)
class Patients:
    """Whose contributions are summed; private.

    Attributes:
        count: how many there are.
        draw: returns K rows of each of some patients, those of one together, given int64 [n] indices on the CPU and
            int64 [n, 4] keys on the model's device: one fresh key a patient, from which all their random choices come
            (image, time, diffusion noise, augmentation; `sonoshare_privacy.mechanisms.draw_words`). A patient's rows
            are a function of that patient's data and key: of no other patient, of no place, of no number of patients.
            Tensors like the padding's, on the model's device.
        loss: maps rows to one loss per row; deterministic, no row depends on another.
        padding: K public rows, for places of a chunk that no patient has.
        planted: canaries that take part like patients; None for none.
    """

    count: int
    draw: Draw
    loss: Loss
    padding: Batch
    planted: Planted | None = None


@dataclass(frozen=True)
class NoisedSum:
    """What one step releases; it may leave the hospital.

    Attributes:
        integers: int64 [D + 1], in steps of the grid; the loss coordinate last. On the model's device, or on the CPU
            where several processes made it.
        grid: what an integer stands for.
    """

    integers: torch.Tensor
    grid: Grid

    def mean_gradient(self, divisor: float) -> torch.Tensor:
        """Noised mean gradient over a public divisor, float32 [D]: 24 bits, far finer than its noise."""
        mean = torch.empty(len(self.integers) - 1, dtype=torch.float32, device=self.integers.device)
        torch.mul(self.integers[:-1], self.grid.step / divisor, out=mean)
        return mean

    def mean_loss(self, divisor: float) -> float:
        """Noised sum of sampled patients' losses, each clipped to [0, 2], over a public divisor; may be negative."""
        share = float(self.integers[-1]) * self.grid.step / (LOSS_SHARE * self.grid.clip_norm)
        return share * LOSS_CAP / divisor


def _waits(device: torch.device) -> bool:
    """Whether the host has nothing to compute while the device does."""
    return device.type != "cpu"


class PaidSums:
    """A number of noised sums, paid for when this is made and used up one by one.

    A subclass says what a sum may be used for.

    Args:
        engine: entered by the caller for as long as sums are released.
        mechanism: public constants of one step.
        event: what all steps together are charged as.
        deviation: of the noise of one sum, in grid units, of a grid.
        ledger: of the hospital; unused on ranks other than the first.
        study: whose budget is charged.
        purpose: in words, for the ledger.
        cohort: nominal number of patients, public.
        ranks: processes that share the patients out.

    Raises:
        InputError: the mechanism's constants are out of range; nothing is charged.
        BudgetError: the budget does not allow it; nothing is charged.
        PolicyError: delta is not below 1 / nominal cohort; nothing is charged.
        LedgerError: there is no ledger, or it is not intact.
    """

    def __init__(
        self,
        engine: PatientGradients,
        mechanism: Mechanism,
        *,
        event: Gaussian,
        deviation: Callable[[Grid], float],
        ledger: Ledger | None,
        study: str,
        purpose: str,
        cohort: int,
        ranks: Ranks | None = None,
    ) -> None:
        self._engine, self._rate, self._ranks = engine, mechanism.rate, ranks or Ranks()
        self.grid = Grid(mechanism.clip_norm, mechanism.noise_multiplier, engine.dimension + 1)
        self._deviation = deviation(self.grid)
        self.charge: Reservation | None = None
        if self._ranks.first:
            if ledger is None:
                raise LedgerError("nothing is released without a ledger", remedy="open the hospital's ledger")
            self.charge = ledger.reserve(ChargeRequest(study, purpose, (event,), mechanism.delta, cohort))
        self._ranks.wait_for_first()
        self._left, self._process, self._lock = event.steps, os.getpid(), threading.Lock()

    @property
    def steps_left(self) -> int:
        """How many sums may still be released."""
        return self._left

    def _noised(self, patients: Patients) -> torch.Tensor:
        """The next step's sum with its noise, int64 [D + 1].

        Raises:
            LedgerError: every charged step has been taken, or this is another process than the one that paid.
            ContributionError: a contribution is larger than the noise was made for; nothing is released.
            ModelError: a draw or loss is not what the engine was checked with; nothing is released.
        """
        self._use_one()
        if not (self._ranks.first and _waits(self._engine.buffer.device)):
            total = self._ranks.add_up(self._sum_of_sample(patients))
            if self._ranks.first:
                self._add_noise(total)
            return self._ranks.from_first(total)
        # The host draws the noise while the device computes. It is used for this sum or, after an error, for none.
        with ThreadPoolExecutor(max_workers=1) as beside:
            noise = torch.zeros(
                self.grid.dimension, dtype=torch.int64, pin_memory=self._engine.buffer.device.type != "cpu"
            )
            drawn = beside.submit(self._add_noise, noise)
            total = self._ranks.add_up(self._sum_of_sample(patients))
            drawn.result()
            total += noise.to(total.device)
        return self._ranks.from_first(total)

    def _add_noise(self, total: torch.Tensor) -> None:
        """Add the noise of one release to int64 [D + 1] on the CPU, in place."""
        add_gaussian_integers(total, self._deviation)

    def _use_one(self) -> None:
        with self._lock:
            if os.getpid() != self._process:
                raise LedgerError("the steps were paid for by another process", remedy="reserve again in this one")
            if self._left < 1:
                raise LedgerError("every charged step has been taken", remedy="reserve again")
            self._left -= 1

    def _sum_of_sample(self, patients: Patients) -> torch.Tensor:
        """Exact integer sum of this rank's part of a fresh Poisson sample, int64 [D + 1]; not private."""
        engine, planted = self._engine, patients.planted
        pseudo = 0 if planted is None else planted.included
        sample = None
        if self._ranks.first:
            sample = torch.from_numpy(poisson_sample(patients.count + pseudo, self._rate))
        chosen = self._ranks.indices(sample)
        mine = chosen[chosen < patients.count][self._ranks.rank :: self._ranks.size]
        device = engine.buffer.device
        total = torch.zeros(engine.dimension + 1, dtype=torch.int64, device=device)
        for part in engine.chunks(len(mine)):
            chunk = mine[part]
            # A key for each, so that nobody's random choices depend on who else was drawn.
            drawn = patients.draw(chunk, fresh_keys(len(chunk), device))
            engine.add_clipped(drawn, patients.padding, patients.loss, self.grid, total)
        if planted is not None:
            included = chosen[chosen >= patients.count] - patients.count
            for rows in planted.contributions(included, engine.places, self.grid.clip_norm):
                losses = torch.zeros(len(rows), dtype=torch.float64, device=device)
                engine.add_rows(rows.to(device, engine.buffer.dtype), losses, self.grid, total)
        return total

    def __copy__(self) -> NoReturn:
        raise LedgerError("a right to release cannot be copied", remedy="reserve again")

    def __deepcopy__(self, _: object) -> NoReturn:
        raise LedgerError("a right to release cannot be copied", remedy="reserve again")

    def __reduce__(self) -> NoReturn:
        raise LedgerError("a right to release cannot be stored or sent", remedy="reserve again")


class StepRelease(PaidSums):
    """A number of noised sums that are private each by itself, paid for when this is made and used up by `next`.

    Args:
        engine: entered by the caller for as long as sums are released.
        mechanism: public constants of one step.
        ledger: of the hospital; unused on ranks other than the first.
        study: whose budget is charged.
        purpose: in words, for the ledger.
        steps: how many sums.
        cohort: nominal number of patients, public.
        ranks: processes that share the patients out.

    Raises:
        InputError: there are no steps, or the mechanism's constants are out of range; nothing is charged.
        BudgetError: the budget does not allow it; nothing is charged.
        PolicyError: delta is not below 1 / nominal cohort; nothing is charged.
        LedgerError: there is no ledger, or it is not intact.
    """

    def __init__(
        self,
        engine: PatientGradients,
        mechanism: Mechanism,
        *,
        ledger: Ledger | None,
        study: str,
        purpose: str,
        steps: int,
        cohort: int,
        ranks: Ranks | None = None,
    ) -> None:
        if steps < 1:
            raise InputError("steps must be positive", remedy="correct the plan")
        super().__init__(
            engine,
            mechanism,
            event=SampledGaussian(mechanism.rate, mechanism.noise_multiplier, steps),
            deviation=lambda grid: grid.deviation,
            ledger=ledger,
            study=study,
            purpose=purpose,
            cohort=cohort,
            ranks=ranks,
        )

    def next(self, patients: Patients) -> NoisedSum:
        """Release the next step's sum.

        Raises:
            LedgerError: every charged step has been taken, or this is another process than the one that paid.
            ContributionError: a contribution is larger than the noise was made for; nothing is released.
            ModelError: a draw or loss is not what the engine was checked with; nothing is released.
        """
        return NoisedSum(self._noised(patients), self.grid)
