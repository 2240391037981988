"""Canaries: does the training that really ran conform to the mechanism that was charged?

Pseudo-patients, made up and each in or out by one secret coin per run, take part like patients: they are
Poisson-sampled with them, clipped by the same code and summed with them. Each has its own direction (random signs on
a random support that no other canary shares, so that patients' gradients look the same along all of them) and a
gradient of 100 C before the clip. In a study of several rounds directions and coins stay the same (a secret of the
hospital fixes them), so that noise which repeats from round to round is seen. What is scored are noisy sums that are
released anyway, so testing costs no budget; the coins and scores stay in the hospital.

Two questions, in this order:

- `conformance`: are noise, clip, sampling rate and independence of steps what the plan says? It sees small faults at
  any epsilon, because it knows the stated mechanism.
- `lower_bound`: the epsilon that an attacker who guesses coins proves at least (Steinke, Nasr and Jagielski,
  "Privacy auditing with one training run", 2023). It must not exceed the claim. It assumes nothing about the
  mechanism, but sees gross faults only, at small epsilon.

Units: C, the clip norm. T steps, m canaries.

Not promised: anything about faults elsewhere (a wrong ``draw``, data prepared with the cohort's statistics).
"""

import hashlib
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from sonoshare_privacy.accounting import SampledGaussian, epsilon
from sonoshare_privacy.mechanisms.gaussian import Grid
from sonoshare_privacy.patient_gradients.per_patient import LOSS_SHARE
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.plan import Mechanism

AMPLITUDE: Final = math.sqrt(1 - LOSS_SHARE**2)  # what is left of a canary's gradient after the clip, in C
CONFIDENCE: Final = 0.95  # of the lower bound
AUDIT_DELTA: Final = 1e-6  # small, or more canaries do not help; the claim is recomputed at it
SECRET_BYTES: Final = 32
DISTURBANCE: Final = 5e-4  # part of a step's energy that canaries may take
_MOST_ADVISABLE: Final = 200
_FEWEST_ADVISABLE: Final = 24
_FEWEST_SCORES: Final = 600  # noise at three quarters of the stated is noticed, though fewer coins than half fall out
_Z: Final = 4.0  # two-sided false alarm of each test: 6e-5
_Z_LAG: Final = 5.0  # of each lag, of which there are as many as steps: 3e-7
_U: Final = 10.4  # exp(-10.4) = 3e-5
_GUESSES: Final = (1.0, 0.5, 0.2, 0.1)  # parts of the coins that are guessed; the best is taken, corrected for four
_LARGEST_EPSILON: Final = 30.0


@dataclass(frozen=True)
class Canaries:
    """How many canaries, and how loud.

    Attributes:
        count: m.
        strength: gradient norm before the clip, in C.
        support: coordinates of a direction; less where the model is small.
        secret: 32 random bytes that fix directions and coins, kept by the hospital over the rounds of a study; None
            draws them afresh.
    """

    count: int = 200
    strength: float = 100.0
    support: int = 64
    secret: bytes | None = field(default=None, repr=False)

    def plant(self, dimension: int) -> "Planted":
        """Toss the coins and choose the directions.

        Raises:
            InputError: the model trains too few numbers for so many canaries.
        """
        support = min(self.support, dimension // (2 * self.count))
        if support < 1:
            raise InputError(
                f"{self.count} canaries need {2 * self.count} trained numbers, not {dimension}",
                remedy="plant fewer canaries",
            )
        secret = self.secret or secrets.token_bytes(SECRET_BYTES)
        random = np.random.default_rng(int.from_bytes(secret, "big"))
        places = random.choice(dimension, size=(self.count, support), replace=False)
        signs = random.choice([-1.0, 1.0], size=(self.count, support))
        directions = torch.from_numpy(signs / math.sqrt(support))
        return Planted(self, dimension, torch.from_numpy(places), directions, _coins(secret, self.count))


def _coins(secret: bytes, count: int) -> torch.Tensor:
    """Fair coins, from a function that tells nothing of the directions' (whose generator is seeded by the secret)."""
    stream = hashlib.shake_256(b"sonoshare canary coins" + secret).digest(math.ceil(count / 8))
    return torch.from_numpy(np.unpackbits(np.frombuffer(stream, np.uint8), count=count).astype(np.bool_))


def advisable_count(dimension: int, mechanism: Mechanism, steps: int) -> int:
    """How many canaries a study of ``steps`` can have without being disturbed; 0 where too few to tell anything.

    They take at most DISTURBANCE of a step's energy, and have at least eight coordinates each.
    """
    undisturbed = 2 * DISTURBANCE * mechanism.noise_multiplier**2 * dimension / mechanism.rate
    count = min(_MOST_ADVISABLE, int(undisturbed), dimension // 16)
    return count if count >= _FEWEST_ADVISABLE and count * steps >= _FEWEST_SCORES else 0


def fewer_in_a_pool(count: int, hospitals: int) -> int:
    """Of so many advisable canaries, each hospital's part where all are in one sum; 0 where too few are left."""
    part = count // hospitals
    return part if part >= _FEWEST_ADVISABLE else 0


@dataclass(frozen=True)
class CanaryRecord:
    """What the canaries saw; secret.

    Attributes:
        scores: float64 [T, m], projection of each released sum on each direction, in C.
        energy: float64 [T, m], mean square of each released sum over the coordinates of each canary, in C**2.
        coins: bool [m], which canaries took part in the run.
        mechanism: as stated.
    """

    scores: NDArray[np.float64]
    energy: NDArray[np.float64]
    coins: NDArray[np.bool_]
    mechanism: Mechanism


@dataclass(frozen=True)
class Conformance:
    """Verdict of the conformance test.

    Attributes:
        faults: among ``noise too small``, ``noise repeats or is too small``, ``contribution or rate too large`` and
            ``canary missing``; empty if the run conforms.
        noise: estimated standard deviation over the stated one.
        rate: estimated rate times contribution over the stated one.
        smallest_noise: a noise below this part of the stated one would have been noticed.
    """

    faults: tuple[str, ...]
    noise: float
    rate: float
    smallest_noise: float


class Planted:
    """Canaries in one run: who is in, where, and what was seen of them."""

    def __init__(
        self,
        canaries: Canaries,
        dimension: int,
        places: torch.Tensor,
        directions: torch.Tensor,
        coins: torch.Tensor,
    ) -> None:
        self._canaries, self._dimension = canaries, dimension
        self._places, self._directions = places, directions
        self._coins = coins
        self._in = torch.nonzero(self._coins).flatten()
        self._scores: list[torch.Tensor] = []
        self._energy: list[torch.Tensor] = []

    @property
    def included(self) -> int:
        """How many take part in this run."""
        return len(self._in)

    def contributions(self, sampled: torch.Tensor, places: int, clip_norm: float) -> Iterator[torch.Tensor]:
        """Gradients before the clip of the sampled canaries, float32 [<= places, D], chunk by chunk."""
        for part in torch.split(self._in[sampled], places):
            if len(part):
                rows = torch.zeros(len(part), self._dimension)
                values = self._directions[part] * (self._canaries.strength * clip_norm)
                yield rows.scatter_(1, self._places[part], values.float())

    def observe(self, released: torch.Tensor, grid: Grid) -> None:
        """Score a released sum, int64 [D + 1]."""
        unit = grid.step / grid.clip_norm
        seen = released[self._places].double() * unit
        self._scores.append((seen * self._directions).sum(1))
        self._energy.append(seen.square().mean(1))

    def record(self, mechanism: Mechanism) -> CanaryRecord:
        """What was seen."""
        scores, energy = torch.stack(self._scores).numpy(), torch.stack(self._energy).numpy()
        return CanaryRecord(scores, energy, self._coins.numpy(), mechanism)


def joined(records: Sequence[CanaryRecord]) -> CanaryRecord | None:
    """Records of rounds as one run, in order; rounds of another secret than the last one's are left out."""
    if not records:
        return None
    last = records[-1]
    same = [one for one in records if np.array_equal(one.coins, last.coins) and one.mechanism == last.mechanism]
    return CanaryRecord(
        np.concatenate([one.scores for one in same]),
        np.concatenate([one.energy for one in same]),
        last.coins,
        last.mechanism,
    )


def conformance(record: CanaryRecord) -> Conformance:
    """Test the stated mechanism by the moments of the scores.

    Patients' own gradients only add variance along a direction, so they never hide that a test from below fails: the
    variance, and the variance of differences between steps, from which their steady part is gone. Against the tests
    from above stands what patients contribute: along random signs it is sub-Gaussian with the energy that they have on
    that canary's own coordinates, however unevenly their gradients are spread.
    """
    sigma, rate = record.mechanism.noise_multiplier, record.mechanism.rate
    out, inside = record.scores[:, ~record.coins], record.scores[:, record.coins]
    if min(out.shape[1], inside.shape[1]) < 2:
        raise InputError("too few canaries fell on each side", remedy="plant more")
    allowed = 1 - _Z * math.sqrt(2 / out.size)
    variance = float(out.var())
    faults = []
    if variance < sigma**2 * allowed:
        faults.append("noise too small")
    patients = np.maximum(record.energy.mean(0) - sigma**2, 0.0)
    if _repeats(out, sigma, patients[~record.coins]):
        faults.append("noise repeats or is too small")
    stated = rate * AMPLITUDE
    found = float(inside.mean() - out.mean())
    one = rate * (1 - rate) * AMPLITUDE**2 + sigma**2
    steady = sum(float(patients[side].sum()) / int(side.sum()) ** 2 for side in (record.coins, ~record.coins))
    error = math.sqrt(one * (1 / inside.size + 1 / out.size) + steady)
    if found > stated + _Z * error:
        faults.append("contribution or rate too large")
    if found < stated - _Z * error:
        faults.append("canary missing")
    return Conformance(tuple(faults), math.sqrt(variance) / sigma, found / stated, math.sqrt(max(0.0, allowed)))


def _repeats(out: NDArray[np.float64], sigma: float, patients: NDArray[np.float64]) -> bool:
    """Whether the scores of canaries that were out, [T, m], show noise that steps share.

    From above: sums over steps, against sigma and the patients' energies on the same coordinates [m] (deviations of a
    weighted chi-square: Laurent and Massart 2000, lemma 1). From below: differences of any two steps at a fixed lag.
    """
    steps, count = out.shape
    noise = steps * sigma**2 * (1 + _Z * math.sqrt(2 / count))
    spread = float(patients.sum()) + 2 * math.sqrt(_U * float((patients**2).sum())) + 2 * _U * float(patients.max())
    if float((out.sum(0) ** 2).mean()) > noise + steps**2 * spread / count:
        return True
    for lag in range(1, steps):
        changes = out[lag:] - out[:-lag]
        # Squares of overlapping differences are correlated by 1/4: three takes the place of two.
        if float((changes**2).mean()) < 2 * sigma**2 * (1 - _Z_LAG * math.sqrt(3 / changes.size)):
            return True
    return False


def lower_bound(record: CanaryRecord) -> float:
    """Epsilon at `AUDIT_DELTA` that guessing the coins proves, with 95 % confidence; 0 where nothing is proved.

    The score of a canary is the log-likelihood ratio of the sampled Gaussian, after its median over steps (patients'
    constant drift) is taken away and with a scale from the data, so that it needs no honest sigma.
    """
    centred = record.scores - np.median(record.scores, axis=0)
    scale = max(1e-3, 1.4826 * float(np.median(np.abs(centred))))
    exponent = np.clip((centred * AMPLITUDE - AMPLITUDE**2 / 2) / scale**2, -700, 700)
    rate = record.mechanism.rate
    if rate < 1:
        exponent = np.logaddexp(math.log1p(-rate), math.log(rate) + exponent)
    else:
        exponent = (record.scores * AMPLITUDE - AMPLITUDE**2 / 2) / scale**2
    order = np.argsort(-exponent.sum(0))
    count = len(order)
    best = 0.0
    for part in _GUESSES:
        side = max(1, int(part * count / 2))
        right = int(record.coins[order[:side]].sum() + (~record.coins[order[-side:]]).sum())
        best = max(best, _proved(count, 2 * side, right, AUDIT_DELTA, (1 - CONFIDENCE) / len(_GUESSES)))
    return best


def claim(mechanism: Mechanism, steps: int) -> float:
    """Epsilon that the stated mechanism has at the audit's delta; `lower_bound` must not exceed it."""
    return epsilon([SampledGaussian(mechanism.rate, mechanism.noise_multiplier, steps)], AUDIT_DELTA)


def _p_value(coins: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Chance of so many right guesses under (epsilon, delta)-DP (Steinke et al. 2023, theorem 5.2)."""
    chance = 1 / (1 + math.exp(-epsilon))
    tail = float(scipy.stats.binom.sf(right - 1, guesses, chance))
    if right == 0:
        return 1.0
    below = np.cumsum(scipy.stats.binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    worst = float((below / np.arange(1, right + 1)).max())
    return min(1.0, tail + 2 * coins * delta * worst)


def _proved(coins: int, guesses: int, right: int, delta: float, level: float) -> float:
    """Largest epsilon that so many right guesses refute at a level; 0 if none."""
    if _p_value(coins, guesses, right, 0.0, delta) > level:
        return 0.0
    low, high = 0.0, _LARGEST_EPSILON
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if _p_value(coins, guesses, right, middle, delta) <= level else (low, middle)
    return low
