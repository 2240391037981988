"""How likely an honest release passes: before a study, from public constants alone.

Example: three hospitals of nominally 150 trained patients, epsilon 1 for an audit, 10 % of copied patients and an AUC
of .7 tolerated. An honest candidate (nobody copied, a model as if nobody was trained on) passes at one hospital with a
chance of .86, at all three with .63; that one of two candidates passes at all three has a chance of .84.

Copies: exact. The noisy count's law is that of ``copytest``; the doubt about the cohort, which rests on the same noise,
and the held-out control are part of it. Membership has no closed form: the histograms, the rough look that gives their
edges and all noise are simulated, and judged by ``rates.refuted_at``, the very rule of the gate. The seed is fixed,
so the same plan is told the same; a chance is right to about two hundredths (three with ten hospitals or more).

Several candidates of one model share its patients' losses and draw noise anew, so that a second try is worth less than
an independent one: that is simulated too. All hospitals must pass the *same* candidate.

What is assumed: the true cohorts are the nominal ones; copies are flagged at the detector's declared false rate, which
is its upper limit; patients' losses are spread like those of phantoms, by which the bins are placed; canaries pass; and
of the attacks on images alone, which can only fail, none does. A cohort below its nominal size passes more rarely.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.special import ndtr

from sonoshare_privacy.audits import gate
from sonoshare_privacy.audits.copies import FALSE_RATE, MAX_RECALL
from sonoshare_privacy.audits.copytest import CopyTest
from sonoshare_privacy.audits.gate import Cohort, DetectorRates
from sonoshare_privacy.audits.membership import QUARTILES, ROUGH_EDGES, ROUGH_SHARE, fine_epsilon, quantiles_of
from sonoshare_privacy.audits.rates import noise_quantile, refuted_at, resolutions
from sonoshare_privacy.mechanisms import geometric
from sonoshare_shared.protocol.documents import AuditPlan

DECLARED: Final = DetectorRates(MAX_RECALL, FALSE_RATE)
"""What the detector declares of nearly every candidate."""

DRAWS: Final = 2000
"""Simulated studies, at most."""

MOST_AUDITS: Final = 20_000
"""Simulated audits at most: with many hospitals there are fewer studies."""

_SEED: Final = 20_261_128
_COPY_BINS: Final = 5
_CELLS: Final = 32
"""Equally likely cells in which simulated losses lie; edges within a cell divide it evenly."""

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class PassChance:
    """Chances that candidates pass.

    Attributes:
        up_to: chance that one of the first 1, 2, ... candidates passes.
    """

    up_to: tuple[float, ...]

    @property
    def first(self) -> float:
        """Chance that the first candidate passes."""
        return self.up_to[0]

    @property
    def any(self) -> float:
        """Chance that one of all candidates passes."""
        return self.up_to[-1]


@dataclass(frozen=True)
class Chances:
    """Chances of an honest release.

    Attributes:
        hospitals: at each hospital alone.
        together: at all of them, over the same candidate.
        blind: why an audit could not see enough, by hospital; its chance is 0 then, and nothing would be charged.
    """

    hospitals: Mapping[str, PassChance]
    together: PassChance
    blind: Mapping[str, str]


def pass_chances(
    audit: AuditPlan, cohorts: Mapping[str, int], candidates: int, most_audits: int = MOST_AUDITS
) -> Chances:
    """Chances that an honest release passes; see the module for what is assumed.

    Args:
        audit: the audits.
        cohorts: nominal number of trained patients by hospital.
        candidates: how many are planned.
        most_audits: how many may be simulated.
    """
    draws = max(200, min(DRAWS, most_audits // (len(cohorts) * candidates)))
    rng = np.random.default_rng(_SEED)
    epsilon, blind, hospitals = fine_epsilon(audit.epsilon_membership), {}, {}
    cohort_of = {nominal: Cohort.nominal(nominal, audit.held_out_fraction) for nominal in cohorts.values()}
    unseen = {n: gate.foresee(audit, cohort, DECLARED, membership_epsilon=epsilon) for n, cohort in cohort_of.items()}
    unflagged = {nominal: copies_pass(audit, cohort) for nominal, cohort in cohort_of.items()}
    all_pass = np.ones((draws, candidates))
    for hospital, nominal in sorted(cohorts.items()):
        found = unseen[nominal]
        if found is None:
            told_apart = _membership_passes(audit, cohort_of[nominal], draws, candidates, rng)
            passes = unflagged[nominal] * told_apart
        else:
            blind[hospital] = found.reasons[0]
            passes = np.zeros((draws, candidates))
        hospitals[hospital] = _chance(passes)
        all_pass *= passes
    return Chances(hospitals, _chance(all_pass), blind)


def copies_pass(audit: AuditPlan, cohort: Cohort, rates: DetectorRates = DECLARED) -> float:
    """Exact chance that the copy audit passes where nobody was copied."""
    test = gate.copy_test(audit, cohort, rates)
    largest = test.largest_passing(gate.tolerated_patients(audit, cohort))
    noise, width = geometric.mass(audit.epsilon_copies)
    # Of the five bins' noise, that of the copy bin is in the count too: both must be small enough for the same draw.
    others, lowest = np.ones(1), 0
    for _ in range(_COPY_BINS - 1):
        others, lowest = np.convolve(others, noise), lowest - width
    fewest = gate.MIN_COHORT_SHARE * cohort.trained - noise_quantile(_COPY_BINS, audit.epsilon_copies, gate.SURE)
    at_least = np.cumsum(others[::-1])[::-1]
    without = np.cumsum(_flagged_without_noise(cohort, rates))
    chance = 0.0
    for place, mass in enumerate(noise):
        drawn = place - width
        most = largest - drawn
        if most < 0:
            break
        needed = int(np.ceil(fewest - cohort.trained)) - drawn - lowest
        rest = 0.0 if needed >= len(at_least) else float(at_least[max(0, needed)])
        chance += float(mass * without[min(most, len(without) - 1)]) * rest
    control = CopyTest(cohort.held_out, rates.false_rate, rates.recall, audit.epsilon_copies, gate.SURE)
    chance *= control.law(0).at_most(control.critical - 1)
    return chance


def _flagged_without_noise(cohort: Cohort, rates: DetectorRates) -> Counts:
    """Law of the number of patients flagged by mistake, float64 [trained + 1]."""
    return np.asarray(
        scipy.stats.binom.pmf(np.arange(cohort.trained + 1), cohort.trained, rates.false_rate), np.float64
    )


def _membership_passes(
    audit: AuditPlan, cohort: Cohort, draws: int, candidates: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Whether the loss attack passes, 0 or 1, [draws, candidates]: one model a draw, noise of its own a candidate."""
    trained, held_out = (_cumulative(count, draws, rng) for count in (cohort.trained, cohort.held_out))
    passes = np.empty((draws, candidates))
    for place in range(candidates):
        edges = ndtr(_edges(trained + held_out, audit.epsilon_membership, rng))
        epsilon = fine_epsilon(audit.epsilon_membership)
        x, y = (_noisy(_binned(group, edges), epsilon, rng) for group in (trained, held_out))
        doubted = x.sum(axis=-1) + noise_quantile(x.shape[-1], epsilon, gate.SURE) < (
            gate.MIN_COHORT_SHARE * cohort.trained
        )
        seen = resolutions(x, y) >= gate.MIN_RESOLUTION
        passes[:, place] = refuted_at(audit.tolerated_auc, x, y, epsilon, audit.alpha) & seen & ~doubted
    return passes


def _cumulative(patients: int, draws: int, rng: np.random.Generator) -> Counts:
    """How many of a group lie below each cell's upper end, of losses that tell nothing, [draws, cells + 1]."""
    cells = rng.multinomial(patients, np.full(_CELLS, 1 / _CELLS), size=draws)
    return np.concatenate([np.zeros((draws, 1)), np.cumsum(cells, axis=1)], axis=1)


def _binned(cumulative: Counts, upper: Counts) -> Counts:
    """Counts between edges given as shares 0..1 of the losses, [draws, edges + 1]."""
    at = np.clip(upper, 0.0, 1.0) * _CELLS
    cell = np.minimum(at.astype(np.int64), _CELLS - 1)
    below = np.take_along_axis(cumulative, cell, axis=1)
    inside = np.take_along_axis(cumulative, cell + 1, axis=1) - below
    reached = np.rint(below + inside * (at - cell))
    return np.diff(np.concatenate([0 * reached[:, :1], reached, cumulative[:, -1:]], axis=1), axis=1)


def _edges(pooled: Counts, epsilon: float, rng: np.random.Generator) -> Counts:
    """Noisy quartiles of the rough look, in standard deviations of the losses, [draws, 3]."""
    ends = np.tile(ndtr(np.array(ROUGH_EDGES)), (len(pooled), 1))
    rough = _noisy(_binned(pooled, ends), ROUGH_SHARE * epsilon, rng)
    return quantiles_of(rough, ROUGH_SHARE * epsilon, np.array(ROUGH_EDGES), QUARTILES)


def _noisy(counts: Counts, epsilon: float, rng: np.random.Generator) -> Counts:
    """Counts with two-sided geometric noise: of a simulation, which protects nobody."""
    stop = -np.expm1(-epsilon)
    noise = rng.geometric(stop, counts.shape) - rng.geometric(stop, counts.shape)
    return counts + noise


def _chance(passes: NDArray[np.float64]) -> PassChance:
    """Of the chances that each candidate passes, given what its model's patients look like, [draws, candidates]."""
    return PassChance(tuple(float(chance) for chance in (1 - np.cumprod(1 - passes, axis=1)).mean(axis=0)))
