"""Drawings of the budget as numbers for inline SVG: a gauge, and the lifetime epsilon after each charge.

Units: epsilon at the policy's delta; pixels of the drawing's own box. What they show is beside them as text, too.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from typing import Final

from sonoshare_shared.protocol.documents.charge import Charge

GAUGE_WIDTH: Final = 400
WIDTH: Final = 640
HEIGHT: Final = 220
LEFT: Final = 48
TOP: Final = 16
RIGHT: Final = WIDTH - 16
BOTTOM: Final = HEIGHT - 28
_HEADROOM: Final = 1.08


@dataclass(frozen=True)
class Gauge:
    """A bar: how much of the lifetime epsilon is spent.

    Attributes:
        spent: epsilon so far, at most.
        limit: epsilon of the hospital's life.
        exact: whether ``spent`` is the number of record.
    """

    spent: float
    limit: float
    exact: bool

    @property
    def share(self) -> float:
        """Spent part of the limit; more than 1 where it was exceeded."""
        return self.spent / self.limit if self.limit > 0 else math.inf

    @property
    def filled(self) -> float:
        """Width of the filled part, in pixels of `GAUGE_WIDTH`."""
        return round(min(1.0, self.share) * GAUGE_WIDTH, 1)


@dataclass(frozen=True)
class History:
    """A line of steps over time.

    Attributes:
        points: of an SVG polyline.
        limit_at: height of the lifetime's limit, in pixels.
        first: day of the first charge.
        last: day of the last one.
        limit: epsilon of the hospital's life.
        reached: epsilon after the last charge.
        reached_at: its height, in pixels.
    """

    points: str
    limit_at: float
    first: str
    last: str
    limit: float
    reached: float
    reached_at: float


def history_of(charges: Sequence[Charge], limit: float) -> History | None:
    """The lifetime epsilon after each charge; None before the first.

    Charges of one day are spread over the day in their order: a charge tells its day alone.
    """
    if not charges:
        return None
    moments = _moments(charges)
    start, span = moments[0], max(moments[-1] - moments[0], 1e-9)
    top = _HEADROOM * max(limit, *(charge.epsilon_lifetime for charge in charges))
    steps, before = [(float(LEFT), _height(0, top))], 0.0
    for moment, charge in zip(moments, charges, strict=True):
        across = LEFT + (moment - start) / span * (RIGHT - LEFT)
        steps += [(across, _height(before, top)), (across, _height(charge.epsilon_lifetime, top))]
        before = charge.epsilon_lifetime
    steps.append((float(RIGHT), _height(before, top)))
    return History(
        points=" ".join(f"{across:.1f},{down:.1f}" for across, down in steps),
        limit_at=_height(limit, top),
        first=charges[0].time[:10],
        last=charges[-1].time[:10],
        limit=limit,
        reached=before,
        reached_at=_height(before, top),
    )


def _moments(charges: Sequence[Charge]) -> list[float]:
    """In days, never going back: entries stand in their order, whatever the machine's clock said."""
    days = list(accumulate((date.fromisoformat(charge.time[:10]).toordinal() for charge in charges), max))
    count, seen, moments = Counter(days), Counter[int](), list[float]()
    for day in days:
        moments.append(day + seen[day] / count[day])
        seen[day] += 1
    return moments


def _height(epsilon: float, top: float) -> float:
    return round(BOTTOM - epsilon / top * (BOTTOM - TOP), 1)
