"""What a privacy report works out of a signed statement: shares, curves, and what the promise alone allows.

Promises: functions of figures that the hospital's ledger was charged for, and of the promise, so nothing here is a
charge. Each is arithmetic that anybody can repeat, without libraries; a report's figures are compared with it to
`TOLERANCE` (rule R16 of ``release.verify``).

- A share is a noisy count over a noisy total, brought into 0..1. Its interval inverts a score test: a share p is kept
  unless the estimate lies further from it than 1.05 z sqrt(p (1 - p) / n + noise), with n the total lowered by one
  standard error of its noise, and the exact variance of the noise to first order. A normal approximation, 95 % for each
  point alone (``tests/shared/test_derived_figures.py`` measures its coverage); [0, 1] where nothing can be said.
- ``worst_case_guess`` is (e^epsilon + delta) / (1 + e^epsilon), which follows from the definition of (epsilon, delta)
  for a guess between two equally likely cases.

Not promised: that curves hold for all borders at once, or anything between the borders of the public bins.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from sonoshare_shared.protocol.documents.derived import AttackCurve, BinShare, DerivedFigures, RatePoint
from sonoshare_shared.protocol.documents.figures import AttackFigures, Histograms, Interval
from sonoshare_shared.protocol.documents.statement import AuditPredicate

CONFIDENCE: Final = 0.95
TOLERANCE: Final = 2e-6
"""How far a report's figure may lie from the one worked out here: it is rounded, and logarithms differ in last bits."""

_DECIMALS: Final = 6
_Z: Final = 1.959964  # of a normal law, two-sided 95 %
_TAIL_ALLOWANCE: Final = 1.05  # the noise has heavier tails than a normal law
_LEAST_PATIENTS: Final = 4.0
_LEAST_EPSILON: Final = 1e-6
_LARGEST_COUNT: Final = 2**40
"""A statement may say anything: beyond these a share is unknown, and no arithmetic fails."""


def derived_figures(said: AuditPredicate) -> DerivedFigures:
    """What follows from a signed statement."""
    figures = said.figures
    attacks = [figures.membership, *([] if figures.images_attack is None else [figures.images_attack])]
    curves = tuple(_curve(attack, attack.histograms) for attack in attacks if attack.histograms is not None)
    copies = figures.copies.histograms
    return DerivedFigures(
        confidence=CONFIDENCE,
        worst_case_guess=_rounded(worst_case_guess(said.spent_epsilon, said.spent_delta)),
        likeness=() if copies is None else _likeness(copies),
        curves=curves,
    )


def worst_case_guess(epsilon: float, delta: float) -> float:
    """How often a guess between two equally likely cases is right at most, by (epsilon, delta) alone."""
    unlikely = math.exp(-epsilon)
    return min(1.0, (1 + delta * unlikely) / (1 + unlikely))


def agree(one: object, other: object) -> bool:
    """Whether two values of JSON are the same, numbers to `TOLERANCE`."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(agree(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(agree(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE
    return bool(one == other)


def share(counts: Sequence[int], chosen: slice, epsilon: float) -> tuple[float, Interval]:
    """Part of a group that lies in some bins, with its interval.

    Args:
        counts: noisy counts of the group, one for each bin.
        chosen: the bins.
        epsilon: parameter of each count's noise.
    """
    if epsilon < _LEAST_EPSILON or any(abs(count) > _LARGEST_COUNT for count in counts):
        return 0.0, (0.0, 1.0)
    inside, total, bins = sum(counts[chosen]), sum(counts), len(counts)
    variance = _noise_variance(epsilon)
    patients = total - math.sqrt(bins * variance)
    estimate = min(1.0, max(0.0, inside / total)) if total > 0 else 0.0
    if patients < _LEAST_PATIENTS:
        return _rounded(estimate), (0.0, 1.0)
    within = len(counts[chosen])
    noise = variance * ((1 - estimate) ** 2 * within + estimate**2 * (bins - within)) / patients**2
    z = (_TAIL_ALLOWANCE * _Z) ** 2
    a, b, c = 1 + z / patients, 2 * estimate + z / patients, estimate**2 - z * noise
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    low, high = (b - root) / (2 * a), (b + root) / (2 * a)
    return _rounded(estimate), (_rounded(max(0.0, low)), _rounded(min(1.0, high)))


def _curve(attack: AttackFigures, of: Histograms) -> AttackCurve:
    points = []
    for place in reversed(range(len(of.edges))):
        trained, trained_interval = share(of.trained, slice(place + 1, None), of.epsilon)
        held_out, held_out_interval = share(of.held_out, slice(place + 1, None), of.epsilon)
        points.append(
            RatePoint(
                above=of.edges[place],
                trained=trained,
                trained_interval=trained_interval,
                held_out=held_out,
                held_out_interval=held_out_interval,
            )
        )
    return AttackCurve(attack=attack.attack or "membership", points=tuple(points))


def _likeness(of: Histograms) -> tuple[BinShare, ...]:
    shares = []
    for place, (low, high) in enumerate(pairwise((None, *of.edges, None))):
        trained, trained_interval = share(of.trained, slice(place, place + 1), of.epsilon)
        held_out, held_out_interval = share(of.held_out, slice(place, place + 1), of.epsilon)
        shares.append(
            BinShare(
                low=low,
                high=high,
                trained=trained,
                trained_interval=trained_interval,
                held_out=held_out,
                held_out_interval=held_out_interval,
            )
        )
    return tuple(shares)


def _noise_variance(epsilon: float) -> float:
    """Variance of the two-sided geometric noise of one count."""
    ratio = math.exp(-epsilon)
    return 2 * ratio / (1 - ratio) ** 2


def _rounded(value: float) -> float:
    return round(value, _DECIMALS)
