"""What the privacy report works out of one hospital's signed figures, so that nobody has to trust a drawing.

Post-processing of noisy counts that were charged, and of the promise: no number here needs a patient, and all of it can
be worked out again from the signed statement (``release.derived``).
"""

from typing import Annotated

from pydantic import Field

from sonoshare_shared.protocol.documents.base import Document
from sonoshare_shared.protocol.documents.figures import Chance, Interval


class RatePoint(Document):
    """Parts of the trained and of the held-out patients whose score is above one border of the public bins.

    Attributes:
        above: the border.
        trained: part of the trained patients (true-positive rate of an attack that names them).
        trained_interval: of it, noise included, for this point alone.
        held_out: part of the held-out patients (false-positive rate).
        held_out_interval: of it.
    """

    above: float
    trained: Chance
    trained_interval: Interval
    held_out: Chance
    held_out_interval: Interval


class AttackCurve(Document):
    """Points of an attack's receiver operating characteristic, from the strictest border to the most lenient.

    Attributes:
        attack: its name.
        points: one for each border of the bins.
    """

    attack: str
    points: tuple[RatePoint, ...]


class BinShare(Document):
    """Parts of the patients whose best likeness to a released image lies in one public bin.

    Attributes:
        low: lower border; None for the first bin.
        high: upper border; None for the last bin, which is that of copies.
        trained: part of the trained patients.
        trained_interval: of it, noise included, for this bin alone.
        held_out: part of the held-out patients.
        held_out_interval: of it.
    """

    low: float | None
    high: float | None
    trained: Chance
    trained_interval: Interval
    held_out: Chance
    held_out_interval: Interval


class DerivedFigures(Document):
    """What follows from one hospital's signed figures.

    Attributes:
        confidence: of each interval, for itself alone.
        worst_case_guess: how often at most a guess is right whether one patient took part, of one who did and one who
            did not in turn, by the promise of (epsilon, delta) alone; a coin is right half of the time.
        likeness: of the patients' pictures to the nearest synthetic image; empty where it was not measured.
        curves: of the membership attacks that were run.
    """

    confidence: Annotated[float, Field(gt=0, lt=1)]
    worst_case_guess: Chance
    likeness: tuple[BinShare, ...]
    curves: tuple[AttackCurve, ...]
