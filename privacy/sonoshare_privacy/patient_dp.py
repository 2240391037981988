"""Private training as one object: a plan's constants in, an adapted model out.

Neighbouring relation: two cohorts are neighbours if one has one patient (with all of their images) more than the other.

What `PatientDP.train` releases, and nothing else: for each step, one vector of integers, the sum over a Poisson
sample of patients of each patient's clipped and rounded contribution, plus Gaussian noise (see
`sonoshare_privacy.mechanisms.gaussian`). Model, losses and optimiser state are functions of these vectors and
of public constants. The release is (epsilon, delta)-DP with the epsilon that `sonoshare_privacy.accounting.epsilon`
gives for ``SampledGaussian(rate, noise_multiplier, steps)``, which is what is charged.

What cannot be done with it: take a step before its charge is on disk; take more steps than were charged; train
without noise or with noise that repeats; divide by anything that depends on the patients; skip an empty sample.

What is assumed: ``draw`` and ``loss`` use patients' data only for the patient they are asked for; the constants of the
mechanism, the divisor, the optimiser and the model's start are public (chosen without looking at these patients, or
by releases that were charged); the hospital's machine is honest; the duration of a training is not observed.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import distributed, nn
from torch.nn import Parameter

from sonoshare_privacy.accounting import SampledGaussian
from sonoshare_privacy.budget import ChargeRequest, Reservation
from sonoshare_privacy.canaries import Canaries, CanaryRecord, Planted
from sonoshare_privacy.ledger import Ledger
from sonoshare_privacy.mechanisms.gaussian import Grid, add_gaussian_integers
from sonoshare_privacy.mechanisms.sampling import poisson_sample, training_generator
from sonoshare_privacy.optimiser import NoisyAdam, Optimiser, OptimiserState
from sonoshare_privacy.patient_gradients.per_patient import LOSS_CAP, LOSS_SHARE, Batch, Loss, PatientGradients
from sonoshare_privacy.patient_gradients.selfcheck import check_against_patient_loop, concatenate
from sonoshare_privacy.ranks import Ranks
from sonoshare_shared.errors import InputError, LedgerError
from sonoshare_shared.protocol.documents.plan import Mechanism

Draw = Callable[[int, torch.Generator], Batch]

_PROBE_PATIENTS: Final = 2


@dataclass(frozen=True)
class Outcome:
    """What a private training gives; all of it may leave the hospital, but for ``canaries``.

    Attributes:
        losses: noisy mean loss of each step: sum of the sampled patients' losses (each clipped to [0, 2]) plus noise,
            over the public divisor. It can be negative.
        charge: the ledger entry that paid for it; None on all but the first rank.
        state: of the optimiser, to go on from in the next round.
        canaries: scores and secret coins, for the hospital alone; None without canaries.
    """

    losses: tuple[float, ...]
    charge: Reservation | None
    state: OptimiserState
    canaries: CanaryRecord | None = field(default=None, repr=False)


class _PaidSteps:
    """The right to release a number of noised sums; made by a reservation, used up by releasing."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def use(self) -> None:
        if self._left < 1:
            raise LedgerError("every charged step has been taken", remedy="reserve again")
        self._left -= 1


class PatientDP:
    """Patient-level DP training of a model's parameters. See the module's contract.

    Args:
        model: any torch model on its device; its mode (train or eval) is left as it is.
        parameters: trained parameters by name, float32 or float64; changed in place by `train`. All others stay.
        mechanism: public constants of one step.
        divisor: public constant that noised sums are divided by: rate times nominal cohort, from the plan.
        ledger: the hospital's ledger; None only on ranks other than the first.
        study: whose budget is charged.
        optimiser: public constants of the post-processing.
        probe: made-up draws (K rows each) of two patients or more, for the self-check before anything is charged;
            without it the check runs on the first patients, after the charge.
        memory_limit: bytes for per-patient gradients.
        autocast: dtype in which the forward computes (bfloat16 on GPUs); None keeps the parameters'.
        group: torch.distributed group over which the hospital's patients are shared out.

    Raises:
        ModelError: the model cannot be trained privately by this engine, or the self-check on ``probe`` failed.
        InputError: the divisor is not a public constant of the right size, or the ledger is missing.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        parameters: Mapping[str, Parameter],
        mechanism: Mechanism,
        divisor: float,
        ledger: Ledger | None,
        study: str,
        optimiser: Optimiser | None = None,
        probe: Sequence[Batch] | None = None,
        memory_limit: int = 96 << 20,
        autocast: torch.dtype | None = None,
        group: distributed.ProcessGroup | None = None,
    ) -> None:
        self._ranks = Ranks(group)
        if self._ranks.first and ledger is None:
            raise InputError("there is no training without a ledger", remedy="open the hospital's ledger")
        cohort = divisor / mechanism.rate
        if not (math.isfinite(cohort) and cohort >= 1):
            raise InputError("divisor must be rate times nominal cohort", remedy="take StudyPlan.divisor")
        self.mechanism, self.study, self.divisor = mechanism, study, float(divisor)
        self.nominal_cohort = round(cohort)
        self.optimiser = optimiser or Optimiser()
        self._ledger, self._autocast = ledger, autocast
        self._gradients = PatientGradients(
            model,
            parameters,
            draws=mechanism.draws,
            clip_norm=mechanism.clip_norm,
            clip_mode=mechanism.clip_mode,
            memory_limit=memory_limit,
            autocast=autocast,
        )
        self._grid = Grid(mechanism.clip_norm, mechanism.noise_multiplier, self._gradients.dimension + 1)
        self._probe = probe

    @property
    def dimension(self) -> int:
        """Number of trained numbers."""
        return self._gradients.dimension

    @property
    def patients_per_chunk(self) -> int:
        """Patients that are computed together, from the memory limit."""
        return self._gradients.chunk

    def train(
        self,
        *,
        patients: int,
        draw: Draw,
        loss: Loss,
        steps: int,
        purpose: str,
        total_steps: int | None = None,
        state: OptimiserState | None = None,
        canaries: Canaries | None = None,
        witnessed: Iterable[str] = (),
    ) -> Outcome:
        """Charge, then train; parameters are changed in place.

        Args:
            patients: how many there are; private, stays inside.
            draw: returns K rows of one patient, given the patient's index and a generator for all its random choices
                (image, time, diffusion noise, augmentation). Tensors on the model's device.
            loss: maps rows to one loss per row; deterministic, no row depends on another.
            steps: how many noised sums are released.
            purpose: in words, for the ledger.
            total_steps: of the whole study, for the learning rate; by default ``steps``.
            state: of the optimiser after the round before.
            canaries: pseudo-patients that test the mechanism from within.
            witnessed: heads of this ledger that others have seen.

        Raises:
            BudgetError: the budget does not allow it; nothing was read.
            PolicyError: delta is not below 1 / nominal cohort.
            LedgerError: the ledger is not intact, or older than a witnessed head.
            ModelError: the self-check failed.
        """
        if steps < 1 or patients < 0:
            raise InputError("steps must be positive", remedy="correct the plan")
        if self._probe is not None:
            check_against_patient_loop(self._gradients, self._probe, loss)
        charge = self._reserve(steps, purpose, witnessed)
        paid = _PaidSteps(steps)
        generator = training_generator(self._gradients.buffer.device)
        if self._probe is None and patients >= _PROBE_PATIENTS:
            first = [draw(index, generator) for index in range(_PROBE_PATIENTS)]
            check_against_patient_loop(self._gradients, first, loss)
        adam = NoisyAdam(self._gradients.parameters, self.optimiser, total_steps=total_steps or steps, state=state)
        planted = canaries.plant(self._gradients.dimension) if canaries and self._ranks.first else None
        losses = []
        with self._gradients:
            for _ in range(steps):
                total = self._clipped_sum(patients, draw, loss, generator, planted)
                released = self._release(total, paid)
                if planted is not None:
                    planted.observe(released, self._grid)
                # float32 keeps 24 bits of a released number: far below its noise.
                mean = torch.empty(len(released), dtype=torch.float32)
                torch.mul(released, self._grid.step / self.divisor, out=mean)
                losses.append(float(mean[-1]) * LOSS_CAP / (LOSS_SHARE * self.mechanism.clip_norm))
                adam.step(mean[:-1].to(self._gradients.buffer.device))
        adam.finish()
        if charge is not None and self._ledger is not None:
            self._ledger.commit(charge)
        record = None if planted is None else planted.record(self.mechanism)
        return Outcome(tuple(losses), charge, adam.state, record)

    def _reserve(self, steps: int, purpose: str, witnessed: Iterable[str]) -> Reservation | None:
        """Make the charge durable; ranks other than the first wait until it is."""
        reservation = None
        if self._ledger is not None and self._ranks.first:
            self._ledger.require_not_older_than(witnessed)
            event = SampledGaussian(self.mechanism.rate, self.mechanism.noise_multiplier, steps)
            reservation = self._ledger.reserve(
                ChargeRequest(self.study, purpose, (event,), self.mechanism.delta, self.nominal_cohort)
            )
        self._ranks.indices(torch.zeros(1, dtype=torch.int64))
        return reservation

    def _clipped_sum(
        self, patients: int, draw: Draw, loss: Loss, generator: torch.Generator, planted: Planted | None
    ) -> torch.Tensor:
        """Exact integer sum of a fresh Poisson sample's contributions, int64 [D + 1] on the CPU; not private."""
        pseudo = 0 if planted is None else planted.included
        sample = None
        if self._ranks.first:
            sample = torch.from_numpy(poisson_sample(patients + pseudo, self.mechanism.rate))
        chosen = self._ranks.indices(sample)
        real = chosen[chosen < patients][self._ranks.rank :: self._ranks.size].tolist()
        engine = self._gradients
        total = torch.zeros(engine.dimension + 1, dtype=torch.int64, device=engine.buffer.device)
        for chunk in engine.chunks(real):
            batch = concatenate([draw(index, generator) for index in chunk])
            engine.add_clipped(batch, loss, self._grid.step, total)
        if planted is not None:
            for rows in planted.contributions(chosen[chosen >= patients] - patients, engine.chunk, self.mechanism):
                engine.add_rows(
                    rows.to(total.device, engine.buffer.dtype),
                    torch.zeros(len(rows), device=total.device),
                    self._grid.step,
                    total,
                )
        return self._ranks.add_up(total.cpu())

    def _release(self, total: torch.Tensor, paid: _PaidSteps) -> torch.Tensor:
        """Add the step's noise, once; the only way out of this object for anything a patient has touched."""
        paid.use()
        if self._ranks.first:
            add_gaussian_integers(total, self._grid.deviation)
        return self._ranks.from_first(total)
