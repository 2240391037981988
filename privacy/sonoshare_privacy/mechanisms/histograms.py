"""One patient, one bin: the only form in which a score leaves a hospital.

A patient's score is one number (the maximum or mean over their images, taken by the caller); the bins have
*public* edges; each count gets independent two-sided geometric noise. Adding or removing one patient changes one
count by one, so the whole histogram is epsilon-differentially private. Trained and held-out patients are disjoint
and which of the two a patient is depends on that patient alone (a keyed hash), so that both histograms together
still cost epsilon once (parallel composition).

Promises: sensitivity 1 whatever the number of images; the noise is drawn once per call (a second call is a second
charge: store the result). Does not promise: non-negative counts; negative noisy counts are kept, clamping them
would bias every figure drawn from them.

Traps, each shown to break in the tests: one *image* one bin; edges taken from the hospital's own patients; scores
normalised by other patients of the hospital.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.mechanisms import geometric
from sonoshare_privacy.mechanisms.geometric import SYSTEM_RANDOM, RandomBelow
from sonoshare_shared.errors import InputError


@dataclass(frozen=True)
class PublicBins:
    """Bins of a score, with edges known before any patient is looked at.

    Bin 0 is below ``edges[0]``, bin i holds scores in [edges[i-1], edges[i]), the last bin [edges[-1], infinity).

    Args:
        edges: strictly increasing, finite, at least one.
    """

    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.edges or not all(np.isfinite(self.edges)) or any(b <= a for a, b in pairwise(self.edges)):
            raise InputError("the edges of an audit's bins must be finite and increasing")

    def __len__(self) -> int:
        return len(self.edges) + 1

    def counts(self, scores: Sequence[float] | NDArray[np.float64]) -> tuple[int, ...]:
        """Count patients by bin (the true counts: for the hospital's own eyes only).

        Args:
            scores: one finite number per patient. NaN is put in the last bin: what cannot be measured is
                suspicious, and the patient must still be counted exactly once.
        """
        values = np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=np.inf)
        index = np.searchsorted(np.asarray(self.edges), values, side="right")
        return tuple(int(c) for c in np.bincount(index, minlength=len(self)))


@dataclass(frozen=True)
class NoisyHistogram:
    """Counts that may leave the hospital.

    Args:
        counts: one integer per bin, noise included, possibly negative.
        epsilon: what each count was protected with.
    """

    counts: tuple[int, ...]
    epsilon: float

    @property
    def total(self) -> int:
        """Noisy number of patients: the sum of the counts."""
        return sum(self.counts)


@dataclass(frozen=True)
class SplitHistogram:
    """Noisy histograms of trained and of held-out patients; both together cost ``epsilon`` once."""

    bins: PublicBins
    trained: NoisyHistogram
    held_out: NoisyHistogram

    @property
    def epsilon(self) -> float:
        """Charge of the pair."""
        return self.trained.epsilon


def draw_histogram(
    scores: Sequence[float] | NDArray[np.float64],
    bins: PublicBins,
    epsilon: float,
    below: RandomBelow = SYSTEM_RANDOM,
) -> NoisyHistogram:
    """Draw the noisy histogram of one group of patients; charge ``epsilon`` before calling.

    Args:
        scores: one number per patient.
        bins: public bins.
        epsilon: privacy parameter with respect to one patient, > 0.
        below: source of uniform integers.
    """
    counts = bins.counts(scores)
    return NoisyHistogram(tuple(c + geometric.draw(epsilon, below) for c in counts), epsilon)


def draw_split(
    trained: Sequence[float] | NDArray[np.float64],
    held_out: Sequence[float] | NDArray[np.float64],
    bins: PublicBins,
    epsilon: float,
    below: RandomBelow = SYSTEM_RANDOM,
) -> SplitHistogram:
    """Draw both histograms under parallel composition; charge ``epsilon`` once, before calling.

    Args:
        trained: one score per trained patient.
        held_out: one score per held-out patient; no patient is in both.
        bins: public bins.
        epsilon: privacy parameter with respect to one patient, > 0.
        below: source of uniform integers.
    """
    return SplitHistogram(
        bins,
        draw_histogram(trained, bins, epsilon, below),
        draw_histogram(held_out, bins, epsilon, below),
    )
