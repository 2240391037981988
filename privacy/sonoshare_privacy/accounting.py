"""What a sequence of releases costs: epsilon at a given delta.

Neighbouring relation: add or remove one patient with all of their images. The number of record is the privacy
loss distribution (PLD) of Google's ``dp_accounting``, worse of the two directions, discretised by connecting the
dots (Doroshenko et al., PoPETs 2022), which is pessimistic: the true epsilon is never larger. Steps at rate 1
are Gaussian mechanisms whose composition has a closed form (Balle and Wang, ICML 2018; Dong, Roth and Su, 2022);
alone they are evaluated by it, in a mix they enter the PLD as one Gaussian.

The noise that is drawn is the discrete Gaussian within 16 deviations, the one that is accounted the Gaussian, rounded.
The difference is counted: wherever Gaussian steps take part, epsilon is found at delta * (1 - `DELTA_SHARE`) and raised
by `EPSILON_SLACK`. That covers 2**40 released numbers (coordinates times steps) at noise multipliers of 1/64 and more,
as long as epsilon is below 48 and delta above 2**-47 (``docs/proofs/gaussian-noise.md``); where hospitals pool their
noise, 2**40 numbers times shares (``docs/proofs/pooled-noise.md``). A pooled step costs what a step of the same
multiplier costs, *under the assumption that its event states*.

Not promised: that the events are what ran. The engine and the ledger see to that.
"""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.charge import Event, PooledGaussian, PureDP, SampledGaussian

# The libraries take more than a second to load: they are loaded where something is computed, not to read a ledger.
if TYPE_CHECKING:
    from dp_accounting import dp_event
    from dp_accounting.mechanism_calibration import ExplicitBracketInterval, LowerEndpointAndGuess
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

__all__ = [
    "Event",
    "PooledGaussian",
    "PureDP",
    "SampledGaussian",
    "epsilon",
    "epsilon_at_most",
    "merged",
    "noise_multiplier_for",
    "prv_epsilon",
]

INTERVAL: Final = 1e-4  # of the privacy loss, in nats: the number of record
COARSE_INTERVAL: Final = 1e-3  # for quick upper bounds; also pessimistic
DELTA_SHARE: Final = 2.0**-30
"""Part of delta that is kept for the difference between the drawn noise and the Gaussian."""
EPSILON_SLACK: Final = 2.0**-30
"""Of the same difference, in nats."""
_MOST_BUCKETS: Final = 2e7  # beyond, the interval grows tenfold (a very loud release: epsilon in the hundreds)
_RUNG_BITS: Final = 5  # significant bits of a step count rounded up: at most 1/16 more steps
_SIGMA_TOLERANCE: Final = 1e-4  # relative
_COARSE_MARGIN: Final = 0.05  # relative, by which the coarse accountant's multiplier is too large, as a rule
_CALIBRATION_DIGITS: Final = 6
_KEPT_WHOLE: Final = 1
_KEPT_PARTS: Final = 4
"""Distributions that are kept: each charge makes new ones of some megabytes, a loud one of hundreds."""


@dataclass(frozen=True)
class _Composition:
    """Events in a normal form: what matters for epsilon, order removed.

    Attributes:
        sampled: (rate < 1, sigma, steps), sorted.
        squared_mu: sum over steps at rate 1 of 1 / sigma**2.
        pure: (epsilon, how often), sorted.
    """

    sampled: tuple[tuple[float, float, int], ...]
    squared_mu: float
    pure: tuple[tuple[float, int], ...]

    @property
    def pure_total(self) -> float:
        return math.fsum(value * count for value, count in self.pure)


def epsilon(events: Sequence[Event], delta: float) -> float:
    """Epsilon of the whole composition, in nats.

    Args:
        events: everything that was released, in any order and mix.
        delta: in (0, 1).

    Returns:
        The number of record, never below the true value; infinite where no epsilon holds at this delta.

    Raises:
        InputError: delta is not in (0, 1).
    """
    if not 0 < delta < 1:
        raise InputError(f"delta must be between 0 and 1, not {delta}", remedy="take less than 1 / patients")
    return _epsilon(_normal_form(events), delta, INTERVAL)


def merged(events: Sequence[Event]) -> tuple[Event, ...]:
    """The same composition with equal mechanisms' steps added up; short however many charges there were."""
    steps: dict[tuple[float, float], int] = {}
    pooled: dict[tuple[float, float, int], int] = {}
    pure: list[Event] = []
    for event in events:
        if isinstance(event, PureDP):
            pure.append(event)
        elif isinstance(event, PooledGaussian):
            resting = (event.rate, event.noise_multiplier, event.honest)
            pooled[resting] = pooled.get(resting, 0) + event.steps
        else:
            key = (event.rate, event.noise_multiplier)
            steps[key] = steps.get(key, 0) + event.steps
    return (
        *(SampledGaussian(rate, sigma, count) for (rate, sigma), count in steps.items()),
        *(PooledGaussian(rate, sigma, count, honest) for (rate, sigma, honest), count in pooled.items()),
        *pure,
    )


def at_least_both(one: Sequence[Event], other: Sequence[Event]) -> tuple[Event, ...]:
    """The smallest composition that holds every mechanism of both: each as often as the one that has it more often.

    It costs no less than either at every delta, and also composed with whatever else.
    """
    return merged([*one, *less(other, one)])


def less(events: Sequence[Event], taken: Sequence[Event]) -> tuple[Event, ...]:
    """What is left of a composition without the mechanisms of another."""
    left: list[Event] = []
    pure = Counter(event.epsilon for event in taken if isinstance(event, PureDP))
    steps = {replace(event, steps=1): event.steps for event in merged(taken) if not isinstance(event, PureDP)}
    for event in merged(events):
        if isinstance(event, PureDP):
            if pure[event.epsilon] > 0:
                pure[event.epsilon] -= 1
            else:
                left.append(event)
        elif (more := event.steps - steps.get(replace(event, steps=1), 0)) > 0:
            left.append(replace(event, steps=more))
    return tuple(left)


def epsilon_at_most(events: Sequence[Event], delta: float) -> float:
    """A quick upper bound of the composition's epsilon, a few per cent above it at most.

    Step counts are rounded up to five significant bits and the discretisation is coarse, so that the ledger asks
    for few different compositions however many charges it takes.
    """
    return _epsilon(_normal_form(events, round_up=True), delta, COARSE_INTERVAL)


def noise_multiplier_for(
    epsilon: float, delta: float, rate: float, steps: int, *, beside: Sequence[Event] = ()
) -> float:
    """Smallest noise multiplier (to 2e-4, relative) that keeps a target.

    Args:
        epsilon: target of the composition, in nats.
        delta: at which the target holds.
        rate: Poisson sampling rate of patients, in (0, 1].
        steps: number of steps.
        beside: other releases that the same target has to cover (audits, earlier studies).

    Returns:
        A multiplier whose epsilon of record is at most the target, rounded up to six digits.

    Raises:
        InputError: the target is not positive, or is used up by ``beside`` alone.
    """
    from dp_accounting.mechanism_calibration import (  # noqa: PLC0415 - see the top, here and below
        ExplicitBracketInterval,
        LowerEndpointAndGuess,
        NoBracketIntervalFoundError,
        calibrate_dp_mechanism,
    )

    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise InputError("epsilon must be positive and finite", remedy="state a budget such as 8")
    if beside and _target_of(beside, delta) >= epsilon:
        raise InputError(
            "the other releases use up the whole target",
            remedy="raise epsilon, spend less on audits, or plan fewer of them",
        )

    def found(interval: float, tolerance: float, bracket: "ExplicitBracketInterval | LowerEndpointAndGuess") -> float:
        return float(
            calibrate_dp_mechanism(
                lambda: _Accountant(interval),
                lambda sigma: (*beside, SampledGaussian(rate, sigma, steps)) if sigma > 0 else (),
                epsilon,
                delta,
                bracket,
                tol=tolerance,
            )
        )

    try:
        rough = found(COARSE_INTERVAL, _SIGMA_TOLERANCE, LowerEndpointAndGuess(0.0, 1.0))
    except NoBracketIntervalFoundError as error:
        raise InputError("no noise keeps this target", remedy="raise epsilon or delta") from error
    # The coarse accountant is pessimistic: what is wanted is a little less than the rough answer.
    low = rough * (1 - _COARSE_MARGIN)
    while _target_of((*beside, SampledGaussian(rate, low, steps)), delta) <= epsilon:
        low /= 2
    near = ExplicitBracketInterval(low, rough * (1 + _SIGMA_TOLERANCE))
    return _round_up(found(INTERVAL, _SIGMA_TOLERANCE * rough, near))


class _Accountant:
    """The number of record in the form that ``dp_accounting``'s calibration asks: fresh, composed once, then read."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._events: Sequence[Event] = ()

    @property
    def ledger(self) -> "dp_event.DpEvent":
        from dp_accounting import dp_event  # noqa: PLC0415

        return dp_event.NoOpDpEvent()

    def compose(self, events: Sequence[Event]) -> "_Accountant":
        self._events = events
        return self

    def get_epsilon(self, delta: float) -> float:
        """Of what was composed; no events stand for no noise."""
        return _epsilon(_normal_form(self._events), delta, self._interval) if self._events else math.inf


def prv_epsilon(events: Sequence[Event], delta: float) -> float:
    """Opacus' PRV accountant (Gopi, Lee and Wutschitz, 2021) on the same events: a cross-check, not the record.

    Raises:
        InputError: an event is not a sampled Gaussian.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.accountants import PRVAccountant  # noqa: PLC0415  torch only where this is used

        accountant = PRVAccountant()
        history = []
        for event in events:
            if not isinstance(event, SampledGaussian):
                raise InputError("PRV knows sampled Gaussians only", remedy="use epsilon()")
            history.append((event.noise_multiplier, event.rate, event.steps))
        accountant.history = history
        return float(accountant.get_epsilon(delta))


def _target_of(events: Sequence[Event], delta: float) -> float:
    """`epsilon` under a name that the calibration's argument does not hide."""
    return _epsilon(_normal_form(events), delta, INTERVAL)


def _round_up(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - _CALIBRATION_DIGITS + 1)
    return round(math.ceil(value / unit) * unit, 12)


def _rung(count: int) -> int:
    """The next integer with at most five significant bits."""
    shift = max(0, count.bit_length() - _RUNG_BITS)
    return -(-count >> shift) << shift


def _normal_form(events: Sequence[Event], *, round_up: bool = False) -> _Composition:
    sampled: dict[tuple[float, float], int] = {}
    full: dict[float, int] = {}
    pure: dict[float, int] = {}
    for event in events:
        if isinstance(event, PureDP):
            pure[event.epsilon] = pure.get(event.epsilon, 0) + 1
        elif event.rate == 1:
            full[event.noise_multiplier] = full.get(event.noise_multiplier, 0) + event.steps
        else:
            key = (event.rate, event.noise_multiplier)
            sampled[key] = sampled.get(key, 0) + event.steps
    rung = _rung if round_up else int
    return _Composition(
        sampled=tuple(sorted((rate, sigma, rung(steps)) for (rate, sigma), steps in sampled.items())),
        squared_mu=math.fsum(rung(steps) / sigma**2 for sigma, steps in sorted(full.items())),
        pure=tuple(sorted((value, rung(count)) for value, count in pure.items())),
    )


@lru_cache(maxsize=4096)
def _epsilon(composition: _Composition, delta: float, interval: float) -> float:
    if not composition.sampled and not composition.squared_mu and not composition.pure:
        return 0.0
    if not composition.sampled and not composition.squared_mu:
        found = float(_pld(composition, _interval(composition, interval)).get_epsilon_for_delta(delta))
        return max(0.0, min(found, composition.pure_total))
    kept = delta * (1 - DELTA_SHARE)
    if not composition.sampled and not composition.pure:
        found = _gaussian_epsilon(math.sqrt(composition.squared_mu), kept)
    else:
        found = float(_pld(composition, _interval(composition, interval)).get_epsilon_for_delta(kept))
    return max(0.0, found) + EPSILON_SLACK


def _gaussian_epsilon(mu: float, delta: float) -> float:
    """Smallest epsilon of a Gaussian mechanism with sensitivity / deviation = mu; the upper end of a bisection."""
    from scipy.special import log_ndtr, ndtr  # noqa: PLC0415

    if mu == 0:
        return 0.0

    def excess(value: float) -> float:
        first = float(ndtr(mu / 2 - value / mu))
        return first - math.exp(min(700.0, value + float(log_ndtr(-mu / 2 - value / mu)))) - delta

    if excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, 1.0
    while excess(high) > 0:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:  # relative, far below what is printed
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def _interval(composition: _Composition, interval: float) -> float:
    """The wanted interval, or a power of ten times it where the losses would need too many buckets."""
    spread = composition.pure_total * 2 + composition.squared_mu + 20 * math.sqrt(composition.squared_mu)
    for rate, sigma, steps in composition.sampled:
        # Mean loss of a step: at most the unsampled one, about q^2 (exp(1/sigma^2) - 1) / 2 for small rates. This
        # only decides the cost of the answer: any interval is pessimistic.
        mean = steps * min(0.5 / sigma**2, 2 * rate**2 * math.expm1(min(1 / sigma**2, 50.0)))
        spread += 4 * mean + 20 * math.sqrt(2 * mean) + 0.5 / sigma**2 + 10 / sigma
    while spread / interval > _MOST_BUCKETS:
        interval *= 10
    return interval


@lru_cache(maxsize=_KEPT_WHOLE)
def _pld(composition: _Composition, interval: float) -> "PrivacyLossDistribution":
    from dp_accounting.pld import common, privacy_loss_distribution  # noqa: PLC0415

    total = privacy_loss_distribution.identity(value_discretization_interval=interval)
    for rate, sigma, steps in composition.sampled:
        total = total.compose(_sampled_pld(rate, sigma, steps, interval))
    if composition.squared_mu:
        total = total.compose(_sampled_pld(1.0, 1 / math.sqrt(composition.squared_mu), 1, interval))
    for value, count in composition.pure:
        parameters = common.DifferentialPrivacyParameters(value, 0.0)
        one = privacy_loss_distribution.from_privacy_parameters(parameters, value_discretization_interval=interval)
        total = total.compose(one.self_compose(count) if count > 1 else one)
    return total


@lru_cache(maxsize=_KEPT_PARTS)
def _one_step_pld(rate: float, sigma: float, interval: float) -> "PrivacyLossDistribution":
    from sonoshare_privacy.gaussian_loss import one_step  # noqa: PLC0415

    return one_step(rate, sigma, interval)


@lru_cache(maxsize=_KEPT_PARTS)
def _sampled_pld(rate: float, sigma: float, steps: int, interval: float) -> "PrivacyLossDistribution":
    one = _one_step_pld(rate, sigma, interval)
    return one.self_compose(steps) if steps > 1 else one
