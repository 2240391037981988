"""Membership attacks: do the trained patients look trained?

Each attack turns a patient into one score (higher: more like a trained patient) that depends on that patient and on
public things alone; rates.py turns noisy histograms of scores into an AUC.

- *Loss attack* (white box): minus the mean log denoising loss of the model that the images were drawn from, at low
  noise (t <= 150 of 1000), over shared public draws of time and noise and over the patient's images. Low noise is
  where a network that memorised a patient gives itself away. It is the stronger attacker: images are drawn from the
  model, so by data processing they tell no more about a patient than the model does to an optimal attacker. The
  release of images is gated on copies and on this attack.
- *Images attack*: the patient's best copy score against the released images. It needs no model and costs nothing
  beyond the copy audit, whose histogram it reads.
- *Blind baseline*: a score that uses neither model nor images. It must not tell trained from held-out patients; if
  it does, the split is not random and no other attack can be believed. It is charged like any other.

Where do the bins of the loss attack come from? Edges taken from the hospital's own patients would break the
privacy of the histogram, and losses of phantoms can lie far from those of patients. So a part of the budget buys a
*rough look*: a noisy histogram of all patients, trained and held out, over coarse public bins around the scores
of phantoms. Its noisy quartiles are edges that anybody may know. Both draws compose.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.mechanisms.geometric import SYSTEM_RANDOM, RandomBelow, variance
from sonoshare_privacy.mechanisms.histograms import (
    NoisyHistogram,
    PublicBins,
    SplitHistogram,
    draw_histogram,
    draw_split,
)

LOW_NOISE_TIMES: Final = (30, 70, 110, 150)
"""Times of the shared draws, of 1000."""

NOISE_SEED: Final = 20_261_102
"""Public: every patient and every image meets the same noise."""

ROUGH_SHARE: Final = 0.2
"""Part of the membership budget that the rough look takes."""

ROUGH_EDGES: Final = (-8.0, -4.0, -2.0, -0.8, 0.0, 0.8, 2.0, 4.0, 8.0)
"""Edges of the rough look in robust standard deviations of the phantoms' scores around their median."""

_SMALLEST_SCALE: Final = 0.05
_SMALLEST_DETAIL: Final = 1e-6
_QUARTILE_RANGE: Final = 1.349  # of a normal law, in standard deviations

QUARTILES: Final = (0.25, 0.5, 0.75)

Patient = TypeVar("Patient")
ImageLosses = Callable[[Patient, NDArray[np.int64], NDArray[np.float32]], NDArray[np.float64]]
"""``losses(patient, times [D], noise [D, S, S])`` returns the denoising loss of each image and draw, [images, D]."""


def loss_scores(patients: Sequence[Patient], losses: ImageLosses[Patient], size: int) -> NDArray[np.float64]:
    """Score of each patient by the loss attack, float64 [n]; higher is more like a trained patient.

    Args:
        patients: whatever ``losses`` understands.
        losses: denoising losses under the audited model.
        size: side S of the images in pixels.
    """
    times = np.array(LOW_NOISE_TIMES, dtype=np.int64)
    rng = np.random.default_rng(NOISE_SEED)
    noise = rng.standard_normal((len(times), size, size), dtype=np.float32)
    smallest = np.finfo(np.float64).tiny
    scores = [-np.log(np.maximum(losses(one, times, noise), smallest)).mean() for one in patients]
    return np.array(scores, dtype=np.float64)


def blind_scores(patients: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Score of each patient by a picture statistic that no training can change, [n].

    Log of the mean difference of neighbouring pixels: on BUS-BRA split by scanner instead of at random it tells the
    groups apart (AUC .87) as well as the loss of an untrained model does (.88).
    """
    fine = [float(np.abs(np.diff(images, axis=2)).mean()) for images in patients]
    return np.log(np.maximum(np.array(fine, dtype=np.float64), _SMALLEST_DETAIL))


@dataclass(frozen=True)
class AttackDraw:
    """What a membership attack lets out: the rough look and the histograms over its quartiles."""

    rough: NoisyHistogram
    rough_bins: PublicBins
    split: SplitHistogram

    @property
    def epsilon(self) -> float:
        """Charge of both draws."""
        return self.rough.epsilon + self.split.epsilon


def rough_bins(reference_scores: NDArray[np.float64]) -> PublicBins:
    """Coarse public bins around the scores of public reference images."""
    low, centre, high = np.quantile(reference_scores, QUARTILES)
    scale = max(_SMALLEST_SCALE, float(high - low) / _QUARTILE_RANGE)
    return PublicBins(tuple(float(centre) + scale * edge for edge in ROUGH_EDGES))


def draw_attack(
    trained: NDArray[np.float64],
    held_out: NDArray[np.float64],
    bins: PublicBins,
    epsilon: float,
    below: RandomBelow = SYSTEM_RANDOM,
) -> AttackDraw:
    """Draw the rough look and then the histograms; charge ``epsilon`` once for both, before calling.

    Args:
        trained: one score per trained patient.
        held_out: one score per held-out patient.
        bins: coarse public bins, at least three edges.
        epsilon: budget of the attack with respect to one patient.
        below: source of uniform integers.
    """
    everybody = np.concatenate([trained, held_out])
    rough = draw_histogram(everybody, bins, ROUGH_SHARE * epsilon, below)
    fine = PublicBins(noisy_quantiles(rough, bins, QUARTILES))
    return AttackDraw(rough, bins, draw_split(trained, held_out, fine, fine_epsilon(epsilon), below))


def fine_epsilon(epsilon: float) -> float:
    """What the rough look leaves of a budget; rounded down, so that both never exceed it."""
    return math.nextafter(epsilon - ROUGH_SHARE * epsilon, 0.0)


def noisy_quantiles(rough: NoisyHistogram, bins: PublicBins, shares: Sequence[float]) -> tuple[float, ...]:
    """Quantiles of a noisy histogram by interpolation, strictly increasing; post-processing.

    The two open bins are taken to be as wide as their neighbours. Counts below one standard deviation of the noise
    count as zero: with few patients the noise of empty bins would otherwise pull the quantiles outwards.
    """
    counts = np.asarray(rough.counts, dtype=np.float64)[None]
    return tuple(float(edge) for edge in quantiles_of(counts, rough.epsilon, np.asarray(bins.edges), shares)[0])


def quantiles_of(
    counts: NDArray[np.float64], epsilon: float, edges: NDArray[np.float64], shares: Sequence[float]
) -> NDArray[np.float64]:
    """`noisy_quantiles` of several histograms at once, [n, shares].

    Args:
        counts: noisy counts, [n, bins].
        epsilon: parameter of their noise.
        edges: between the bins, [bins - 1].
        shares: increasing, in 0..1 (both excluded).
    """
    ends = np.concatenate([[2 * edges[0] - edges[1]], edges, [2 * edges[-1] - edges[-2]]])
    weights = np.where(counts < math.sqrt(variance(epsilon)), 0.0, counts) + 1e-3
    reached = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    found = []
    for share in shares:
        place = np.minimum((reached <= share).sum(axis=1), len(ends) - 2)
        rows = np.arange(len(counts))
        below = np.where(place > 0, reached[rows, place - 1], 0.0)
        part = (share - below) / (reached[rows, place] - below)
        found.append(ends[place] + part * (ends[place + 1] - ends[place]))
    return np.stack(found, axis=1)
