"""Private training as one object: a plan's constants in, an adapted model out.

Neighbouring relation: two cohorts are neighbours if one has one patient (with all of their images) more than the other.

What `PatientDP.train` releases, and nothing else: for each step, one vector of noised integers from
`sonoshare_privacy.step_release`, which holds the promise and the paid steps. Model, losses and optimiser state are
functions of these vectors and of public constants. The release is (epsilon, delta)-DP with the epsilon that
`sonoshare_privacy.accounting.epsilon` gives for ``SampledGaussian(rate, noise_multiplier, steps)``, which is what is
charged. This module only joins three parts: the engine's check on public rows, the step release, and the optimiser.

What cannot be done with it: train with a model that was not checked; divide by anything that depends on the patients;
and all that the step release forbids.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import distributed, nn
from torch.nn import Parameter

from sonoshare_privacy.budget import Reservation
from sonoshare_privacy.canaries import Canaries, CanaryRecord, Planted
from sonoshare_privacy.ledger import Ledger
from sonoshare_privacy.mechanisms.gaussian import Grid
from sonoshare_privacy.noisy_adam import NoisyAdam, OptimiserState
from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.patient_gradients.chunk import Batch, together
from sonoshare_privacy.patient_gradients.per_patient import Loss, PatientGradients
from sonoshare_privacy.patient_gradients.places import places_of_chunk
from sonoshare_privacy.patient_gradients.room import CPU_ROOM, Room, memory_of, most_places
from sonoshare_privacy.patient_gradients.selfcheck import PlacesDifferError, check_engine, made_up
from sonoshare_privacy.pooled_release import PooledRelease, Share
from sonoshare_privacy.ranks import Ranks, bits_of
from sonoshare_privacy.step_release import Draw, Patients, StepRelease
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.plan import Mechanism, Precision
from sonoshare_shared.science.precision import FLOAT32


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
        probe: public draws (K rows each) of two patients or more that show every kind of row patients have; for the
            check before anything is charged, and the first of them to fill chunks.
        room: public bounds on a chunk; None takes the machine's (`sonoshare_privacy.patient_gradients.room`).
        precision: in which forward and backward compute; public, from the plan.
        group: torch.distributed group over which the hospital's patients are shared out (`sonoshare_privacy.ranks`).

    Raises:
        ModelError: the model cannot be trained privately by this engine.
        InputError: the divisor is not a public constant of the right size, a constant of the mechanism is out of range,
            the probe is too small, or the ledger is missing.
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
        probe: Sequence[Batch],
        optimiser: Optimiser | None = None,
        room: Room | None = None,
        precision: Precision = FLOAT32,
        group: distributed.ProcessGroup | None = None,
    ) -> None:
        self._ranks = Ranks(group)
        if self._ranks.first and ledger is None:
            raise InputError("there is no training without a ledger", remedy="open the hospital's ledger")
        cohort = divisor / mechanism.rate
        if not (math.isfinite(cohort) and cohort >= 1):
            raise InputError("divisor must be rate times nominal cohort", remedy="take StudyPlan.divisor")
        if len(probe) < 2:
            raise InputError("there is no training without a check", remedy="give public draws of at least two")
        self.mechanism, self.study, self.divisor = mechanism, study, float(divisor)
        self.nominal_cohort = round(cohort)
        self.optimiser = optimiser or Optimiser()
        self._model, self._parameters, self._ledger, self._precision = model, dict(parameters), ledger, precision
        self._probe = tuple(probe)
        device = next(iter(self._parameters.values())).device if self._parameters else torch.device("cpu")
        self._memory = None if room else memory_of(device)
        self._engine = self._engine_of(places=1)
        if self._memory is None:
            row_bytes = self._engine.dimension * self._engine.buffer.dtype.itemsize
            self._fit((room or CPU_ROOM).most_places(mechanism.draws, row_bytes))
        Grid(mechanism.clip_norm, mechanism.noise_multiplier, self.dimension + 1)  # refuses absurd constants

    def _engine_of(self, places: int) -> PatientGradients:
        return PatientGradients(
            self._model,
            self._parameters,
            draws=self.mechanism.draws,
            clip_norm=self.mechanism.clip_norm,
            clip_mode=self.mechanism.clip_mode,
            places=places,
            precision=self._precision,
        )

    def _fit(self, most: int) -> None:
        """Take the number of places that costs least, of at most so many."""
        expected = self.divisor / self._ranks.size
        kind = self._engine.buffer.device.type
        self._engine = self._engine_of(
            places_of_chunk(draws=self.mechanism.draws, expected=expected, most=most, device=kind)
        )

    @property
    def dimension(self) -> int:
        """Number of trained numbers."""
        return self._engine.dimension

    @property
    def patients_per_chunk(self) -> int:
        """Patients that are computed together: a public constant of the whole training.

        On a GPU it is settled when `train` begins.
        """
        return self._engine.places

    def train(
        self,
        *,
        patients: int | Callable[[Reservation | None], int],
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
            patients: how many there are; private, stays inside. A function is called with the charge once that is
                durable, and opens the patients: what it meets can change no refusal that comes before the charge.
            draw: see `sonoshare_privacy.step_release.Patients`.
            loss: see there.
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
            InputError: there are no steps, or the model has no room for the canaries.
            ModelError: the check of the engine failed; nothing was charged.
            ContributionError: a fault of software or machine was met in a step; the charge stands.
            FederationError: a rank is gone or hangs; if that is after the charge, the charge stands.
        """
        if steps < 1 or (isinstance(patients, int) and patients < 0):
            raise InputError("steps must be positive", remedy="correct the plan")
        planted = self._ready(loss, canaries, witnessed)
        release = StepRelease(
            self._engine,
            self.mechanism,
            ledger=self._ledger,
            study=self.study,
            purpose=purpose,
            steps=steps,
            cohort=self.nominal_cohort,
            ranks=self._ranks,
        )
        count = patients if isinstance(patients, int) else patients(release.charge)
        whose = Patients(count, draw, loss, padding=self._probe[0], planted=planted)
        adam = NoisyAdam(self._parameters, self.optimiser, total_steps=total_steps or steps, state=state)
        losses = []
        with self._engine:
            for _ in range(steps):
                released = release.next(whose)
                if planted is not None:
                    planted.observe(released.integers.cpu(), released.grid)
                losses.append(released.mean_loss(self.divisor))
                adam.step(released.mean_gradient(self.divisor).to(self._engine.buffer.device))
                if self._ranks.size > 1:  # else who computes a patient, which depends on the sample, would show
                    self._ranks.require_same(bits_of(self._parameters))
        adam.finish()
        if release.charge is not None and self._ledger is not None:
            self._ledger.commit(release.charge)
        record = None if planted is None else planted.record(self.mechanism)
        return Outcome(tuple(losses), release.charge, adam.state, record)

    def share(
        self,
        *,
        honest: int,
        planned: int,
        patients: Callable[[Reservation | None], int],
        draw: Draw,
        loss: Loss,
        purpose: str,
        canaries: Canaries | None = None,
        witnessed: Iterable[str] = (),
    ) -> tuple[Share, Planted | None]:
        """Charge, then make this hospital's share of one pooled step; no parameter is changed.

        Args:
            honest: how many hospitals the charge rests on.
            planned: steps of the whole study.
            patients: called with the charge once that is durable; opens the patients and says how many there are.
            draw: see `train`.
            loss: see there.
            purpose: in words, for the ledger.
            canaries: pseudo-patients that test the mechanism from within.
            witnessed: heads of this ledger that others have seen.

        Returns:
            The share, secret until it is masked, and the canaries that are in it.

        Raises:
            BudgetError, PolicyError, LedgerError, InputError, ModelError, ContributionError: as `train`.
        """
        planted = self._ready(loss, canaries, witnessed)
        release = PooledRelease(
            self._engine,
            self.mechanism,
            honest=honest,
            ledger=self._ledger,
            study=self.study,
            purpose=purpose,
            steps=1,
            planned=planned,
            cohort=self.nominal_cohort,
            ranks=self._ranks,
        )
        whose = Patients(patients(release.charge), draw, loss, padding=self._probe[0], planted=planted)
        with self._engine:
            share = release.next(whose)
        if release.charge is not None and self._ledger is not None:
            self._ledger.commit(release.charge)
        return share, planted

    def _ready(self, loss: Loss, canaries: Canaries | None, witnessed: Iterable[str]) -> Planted | None:
        """What comes before a charge: the engine's check, the canaries, and the ledger's age."""
        self._check(loss)
        planted = canaries.plant(self.dimension) if canaries and self._ranks.first else None
        if self._ledger is not None and self._ranks.first:
            self._ledger.require_not_older_than(witnessed)
        return planted

    def _check(self, loss: Loss) -> None:
        """Check the engine on public rows; where places differ on this machine, go on with one place a chunk."""
        if self._memory is not None:
            self._fit(-self._ranks.largest(-most_places(lambda places: self._try_chunk(places, loss), self._memory)))
        differ = 0
        try:
            check_engine(self._engine, self._probe, loss)
        except PlacesDifferError:
            if self._engine.places == 1:
                raise
            differ = 1
        if self._ranks.largest(differ):
            self._engine = self._engine_of(places=1)
            check_engine(self._engine, self._probe, loss)
        if self._ranks.size > 1:
            self._ranks.require_same(self._sum_of_probe(loss))
            with made_up(self._model):  # as in the engine's own check: weights that nobody chose hide nothing
                self._ranks.require_same(self._sum_of_probe(loss))

    def _sum_of_probe(self, loss: Loss) -> torch.Tensor:
        """What the probe's patients contribute, int64 [D + 1]; public."""
        return self._public_sum(self._engine, loss).cpu()

    def _try_chunk(self, places: int, loss: Loss) -> None:
        """Compute a chunk of so many places, once, on public rows."""
        self._public_sum(self._engine_of(places), loss, self._probe[:1])

    def _public_sum(self, engine: PatientGradients, loss: Loss, probe: Sequence[Batch] | None = None) -> torch.Tensor:
        """What public rows contribute, int64 [D + 1] on the model's device."""
        rows = self._probe if probe is None else probe
        grid = Grid(self.mechanism.clip_norm, self.mechanism.noise_multiplier, engine.dimension + 1)
        total = torch.zeros(engine.dimension + 1, dtype=torch.int64, device=engine.buffer.device)
        with engine:
            for part in engine.chunks(len(rows)):
                engine.add_clipped(together(rows[part]), rows[0], loss, grid, total)
        return total
