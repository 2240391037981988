"""Pooled noise: each hospital adds a share, and the *sum over hospitals* is private while enough of them are honest.

Neighbouring relation: add or remove one patient, with all of their images, at one hospital.

Each call of `PooledRelease.next` gives one `Share`: integers, the sum over a fresh Poisson sample of every sampled
patient's clipped and rounded contribution, plus discrete Gaussian noise of deviation sigma * sensitivity / sqrt(t)
(`share_deviation`). **A share is not private enough to leave**: seen by itself it costs a patient what a step of
sigma / sqrt(t) costs (`PooledGaussian.alone`). It leaves under masks that cancel in the sum over a set of hospitals
(`sonoshare_privacy.masking`), and so does nothing else that is computed from it: no loss, no norm, no verdict.

What is charged is ``PooledGaussian(rate, sigma, steps, honest=t)``. Claim (docs/proofs/pooled-noise.md): as long as t
hospitals of the set, this one among them, add their share and keep it to themselves, all that anybody learns from the
sum, the other hospitals and the coordinator included, is one step of the sampled Gaussian with sigma.

What cannot be done with it: all that `sonoshare_privacy.step_release` forbids; send one share under two sets of masks
(the difference of two sums would be one hospital's share); read a share, copy or store it; add fewer than t shares up
by name (`PooledSum`).

What is assumed: the same public constants at all hospitals; masks that hide what is not the sum; t honest hospitals.
"""

import math
from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_privacy.accounting import PooledGaussian
from sonoshare_privacy.canaries import Planted
from sonoshare_privacy.ledger import Ledger
from sonoshare_privacy.mechanisms.discrete_gaussian import REACH
from sonoshare_privacy.mechanisms.gaussian import Grid
from sonoshare_privacy.patient_gradients.per_patient import LOSS_CAP, LOSS_SHARE, PatientGradients
from sonoshare_privacy.ranks import Ranks
from sonoshare_privacy.step_release import PaidSums, Patients
from sonoshare_shared.errors import InputError, IntegrityError, LedgerError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.protocol.documents.plan import Mechanism

Words = NDArray[np.uint64]
"""Integers modulo 2**64; a signed integer is its two's complement."""

_UPWARDS: Final = 1 + 2.0**-40
"""Relative room, so that no rounding of a root leaves t shares with less than the whole noise."""
_SPARE_PATIENTS: Final = 2
"""True cohorts may be larger than the nominal ones by so much before a sum is taken for none."""
_MOST_DRAWN: Final = 1 << 40
"""Numbers times shares in a study, up to which the drawn noise is accounted for (docs/proofs/pooled-noise.md)."""


def share_deviation(grid: Grid, honest: int) -> float:
    """Deviation of one hospital's noise, in grid units: ``honest`` such variances are at least the whole one."""
    return grid.deviation / math.sqrt(honest) * _UPWARDS


class Share:
    """One hospital's part of a sum; secret, and usable once."""

    def __init__(self, words: Words, grid: Grid) -> None:
        self._words: Words | None = words
        self.grid = grid

    def take(self) -> Words:
        """The words, for whoever masks them, for one set. They are forgotten here: there is no second taking.

        Raises:
            LedgerError: the share was taken before.
        """
        words, self._words = self._words, None
        if words is None:
            raise LedgerError("a share is taken once", remedy="take part in the next round; this one is lost")
        return words

    def shown_to(self, planted: Planted) -> None:
        """Let the hospital's own canaries score it; what they see stays at the hospital.

        Raises:
            LedgerError: the share was taken before.
        """
        if self._words is None:
            raise LedgerError("a share is looked at before it is taken")
        planted.observe(torch.from_numpy(self._words.view(np.int64)), self.grid)

    def __copy__(self) -> NoReturn:
        raise LedgerError("a share cannot be copied")

    def __deepcopy__(self, _: object) -> NoReturn:
        raise LedgerError("a share cannot be copied")

    def __reduce__(self) -> NoReturn:
        raise LedgerError("a share cannot be stored or sent as it is", remedy="mask it")


class PooledRelease(PaidSums):
    """A number of shares, paid for when this is made and used up by `next`.

    Args:
        engine: entered by the caller for as long as sums are made.
        mechanism: public constants of one step; the noise multiplier is that of the whole sum.
        honest: t, how many hospitals the promise rests on.
        ledger: of the hospital; unused on ranks other than the first.
        study: whose budget is charged.
        purpose: in words, for the ledger.
        steps: how many sums are charged here.
        planned: how many the whole study has; public.
        cohort: nominal number of patients, public.
        ranks: processes that share the patients out.

    Raises:
        InputError: there are no steps, constants are out of range, or the study draws more noise than is accounted for;
            nothing is charged.
        BudgetError: the budget does not allow it; nothing is charged.
        PolicyError: delta is not below 1 / nominal cohort; nothing is charged.
        LedgerError: there is no ledger, or it is not intact.
    """

    def __init__(
        self,
        engine: PatientGradients,
        mechanism: Mechanism,
        *,
        honest: int,
        ledger: Ledger | None,
        study: str,
        purpose: str,
        steps: int,
        planned: int,
        cohort: int,
        ranks: Ranks | None = None,
    ) -> None:
        if not 1 <= steps <= planned:
            raise InputError("steps must be positive, and no more than are planned", remedy="correct the plan")
        if (engine.dimension + 1) * planned * honest > _MOST_DRAWN:
            raise InputError(
                "numbers times steps times honest hospitals are more than 2**40", remedy="train less, or plan fewer"
            )
        super().__init__(
            engine,
            mechanism,
            event=PooledGaussian(mechanism.rate, mechanism.noise_multiplier, steps, honest),
            deviation=lambda grid: share_deviation(grid, honest),
            ledger=ledger,
            study=study,
            purpose=purpose,
            cohort=cohort,
            ranks=ranks,
        )

    def next(self, patients: Patients) -> Share:
        """The next step's share.

        Raises:
            LedgerError, ContributionError, ModelError: as `sonoshare_privacy.step_release.StepRelease.next`.
        """
        return Share(self._noised(patients).cpu().numpy().view(np.uint64), self.grid)


@dataclass(frozen=True)
class PooledSum:
    """What all hospitals of a set added up to; private while t of them are honest.

    Attributes:
        integers: int64 [D + 1], in steps of the grid; the loss coordinate last.
        grid: what an integer stands for.
        divisor: public: rate times the nominal cohorts of the set.
    """

    integers: NDArray[np.int64]
    grid: Grid
    divisor: float

    @classmethod
    def of(cls, words: Words, grid: Grid, *, rate: float, patients: int, shares: int, honest: int) -> "PooledSum":
        """Decode the sum of masked words, in which the masks have cancelled.

        Args:
            words: uint64 [D + 1].
            grid: of the plan.
            rate: sampling rate of the plan.
            patients: nominal cohorts of the hospitals in the sum, added up.
            shares: how many hospitals are in the sum.
            honest: t of the plan.

        Raises:
            InputError: there are more or fewer words than coordinates, or fewer hospitals than must be honest.
            IntegrityError: a number is beyond what twice the patients and 16 deviations of noise can reach: masks did
                not cancel, or a hospital's numbers are none.
        """
        if len(words) != grid.dimension or shares < honest:
            raise InputError("a sum has a word for each coordinate, of at least the honest hospitals")
        integers = words.view(np.int64)
        reach = _SPARE_PATIENTS * patients * grid.sensitivity + shares * REACH * share_deviation(grid, honest)
        if (integers > reach).any() or (integers < -reach).any():
            raise IntegrityError(
                "the pooled sum holds a number that no patients and no noise could make",
                remedy="the round is lost: a hospital's software sent something else, or masks did not cancel",
            )
        return cls(integers, grid, rate * patients)

    def tensor(self) -> torch.Tensor:
        """The integers, int64 [D + 1], for canaries to look at."""
        return torch.from_numpy(self.integers.copy())

    def mean_gradient(self) -> NDArray[np.float64]:
        """Noised mean gradient, float64 [D]."""
        return self.integers[:-1].astype(np.float64) * (self.grid.step / self.divisor)

    def mean_loss(self) -> float:
        """Noised mean of sampled patients' losses, each clipped to [0, 2]; may be negative."""
        share = float(self.integers[-1]) * self.grid.step / (LOSS_SHARE * self.grid.clip_norm)
        return share * LOSS_CAP / self.divisor


@dataclass(frozen=True)
class PooledLayout:
    """Which numbers stand where in a share; all hospitals of a sum have the same, so each signs its digest.

    Attributes:
        counts: of each trained tensor's numbers, by name, in order; the loss comes last.
        grid: of all numbers.
    """

    counts: dict[str, int]
    grid: Grid

    @classmethod
    def of(cls, mechanism: Mechanism, counts: dict[str, int]) -> "PooledLayout":
        """The layout of a plan's shares."""
        return cls(counts, Grid(mechanism.clip_norm, mechanism.noise_multiplier, sum(counts.values()) + 1))

    @property
    def words(self) -> int:
        """Length of a share."""
        return self.grid.dimension

    def digest(self) -> str:
        """Sha256 of names, sizes and unit, 64 hexadecimal characters."""
        return sha256_hex(canonical_bytes(["pooled", [list(one) for one in self.counts.items()], self.grid.step]))
