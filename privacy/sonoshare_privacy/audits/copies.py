"""The copy detector: calibrated on public images, run on patients, one score per patient.

Detector: aligned local correlation (correlation.py). A patient's score is the largest over all of their images and
all candidates; it depends on that patient's images and the (public) candidate set alone, so that one patient can
change only their own bin. It is never normalised by other patients of the hospital.

Calibration uses *public* images only: the candidate set itself, phantoms from a fixed seed as stand-ins for
patients who were not copied, and edited copies planted of those phantoms.
- Threshold: pair scores of phantoms with the candidates have tails that fall by a nearly constant step for every
  factor of ten (measured: a little less), so the threshold for the wanted false rate per patient is a straight line
  through the 10^-2 and 10^-4 tails, plus a margin for the step from phantoms to patients; never below the shipped
  floor. Candidates are never compared with each other for this: a generator that copies one patient twice would
  raise its own threshold.
- Bins below the threshold: quartiles of the phantoms' best scores with *all* candidates, found by the search that the
  patients will meet; best scores grow with the number of candidates.
- Recall: share of planted copies found at that threshold, by edit. The declared recall is the mean over the whole
  table, blind spots included, and at most MAX_RECALL. Where a coarse first pass chooses what the detector looks at
  (nearest.py), a planted copy counts as found only if it would be chosen among the very candidates.

Does not promise: what the recall table does not show. Held-out patients check the false rate (gate.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_privacy.audits.correlation import COARSER, best_correlations, paired_correlations
from sonoshare_privacy.audits.edits import EDITS
from sonoshare_privacy.audits.gate import DetectorRates
from sonoshare_privacy.audits.nearest import JoinedPictures, Pictures, first_pass_limits, nearest
from sonoshare_privacy.audits.reference import REFERENCE_SEED
from sonoshare_privacy.mechanisms.histograms import PublicBins
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU

FALSE_RATE: Final = 0.003
"""Wanted chance that a patient who was not copied is flagged by the whole candidate set."""

FLOOR: Final = 0.66
"""Shipped lower limit of the threshold: one false flag per 1000 images against 1000 on BUS-BRA (.646 without twins)."""

MARGIN: Final = 0.03
"""From phantoms to patients: upper tails of real against real lie this much above phantom against real."""

MAX_RECALL: Final = 0.9
"""Never declare more: a model's near-copies are not the table's edits."""

PLANTED_SOURCES: Final = 24

_IMAGES_PER_PATIENT: Final = 4
"""Images of a patient assumed in the false rate (public constant; more images raise it in proportion)."""

_MOST_CALIBRATED: Final = 1000
"""Candidates used for the tail: 128,000 pairs."""


@dataclass(frozen=True)
class CopyDetector:
    """A calibrated detector; every field is public.

    Args:
        threshold: scores of at least this are copies.
        bins: quartiles of the phantoms' best scores, and the copy bin.
        rates: declared recall and false rate.
        recall: share of planted copies found, by edit.
        looks: how the search is run that the recall was measured with (nearest.py).
    """

    threshold: float
    bins: PublicBins
    rates: DetectorRates
    recall: Mapping[str, float]
    looks: int | None = None

    @property
    def blind_spots(self) -> tuple[str, ...]:
        """Edits of which fewer than 90 % were found."""
        return tuple(name for name, share in self.recall.items() if share < 0.9)


def calibrate(
    candidates: Pictures, reference: NDArray[np.float32], device: torch.device = CPU, looks: int | None = None
) -> CopyDetector:
    """Calibrate the detector for one candidate set.

    Args:
        candidates: pictures [n, S, S] in 0..1.
        reference: public images of the same size that the candidates cannot be copies of, at least 32.
        device: torch device.
        looks: as the search will be run (nearest.py); the recall is that of this search among these candidates.

    Raises:
        InputError: no candidates, or too few reference images.
    """
    if len(candidates) == 0:
        raise InputError("there is no synthetic image to audit", remedy="name a folder with images")
    if len(reference) < 32:
        raise InputError("the copy detector needs at least 32 public reference images")
    stride = max(1, len(candidates) // _MOST_CALIBRATED)
    pairs = best_correlations(candidates[: stride * _MOST_CALIBRATED : stride], reference, device)
    threshold = _threshold(pairs, len(candidates))
    whole = len(pairs) == len(candidates)
    best = pairs.max(axis=0) if whole else nearest(candidates, reference, device, looks).scores
    quartiles = np.quantile(best, (0.25, 0.5, 0.75))
    edges = [float(edge) for edge in np.minimum(quartiles, threshold - 0.03)]
    edges = [edge - 1e-3 * (len(edges) - place) for place, edge in enumerate(edges)]  # strictly increasing
    limits = None if looks is None else first_pass_limits(candidates, reference[:PLANTED_SOURCES], looks, device)
    recall = planted_recall(reference, threshold, device, limits)
    declared = min(MAX_RECALL, float(np.mean(list(recall.values()))))
    return CopyDetector(threshold, PublicBins((*edges, threshold)), DetectorRates(declared, FALSE_RATE), recall, looks)


def _threshold(pairs: NDArray[np.float32], candidates: int) -> float:
    """Extrapolate the pair tail to the false rate of a patient against all candidates."""
    near, far = np.quantile(pairs, (1 - 1e-2, 1 - 1e-4))
    step = float(far - near) / 2  # per factor of ten
    decades = np.log10(candidates * _IMAGES_PER_PATIENT / FALSE_RATE)
    return float(np.clip(near + step * (decades - 2) + MARGIN, FLOOR, 0.95))


def planted_recall(
    sources: NDArray[np.float32],
    threshold: float,
    device: torch.device = CPU,
    limits: NDArray[np.float32] | None = None,
) -> dict[str, float]:
    """Share of planted copies of public images that are found, by edit.

    Found is a copy that scores at least ``threshold`` with its source and, in two stages, that the first pass ranks
    high enough; a copy is as likely in one shard of the candidates as in another.

    Args:
        sources: public images, float32 [n, S, S]; the first PLANTED_SOURCES are copied.
        threshold: of the detector.
        device: torch device.
        limits: of the first pass, float32 [shards, PLANTED_SOURCES]; None where there is none.
    """
    rng = np.random.default_rng(REFERENCE_SEED + 1)
    chosen = sources[:PLANTED_SOURCES]
    others = sources[PLANTED_SOURCES : 2 * PLANTED_SOURCES][: len(chosen)]
    others = others if len(others) == len(chosen) else chosen[::-1]
    fine, coarse = planted_scores(chosen, others, rng, device)
    found = fine >= threshold
    if limits is not None:
        found = found[:, None] & (coarse[:, None] > limits)
    return {edit.name: float(share.mean()) for edit, share in zip(EDITS, found, strict=True)}


def planted_scores(
    sources: NDArray[np.float32], others: NDArray[np.float32], rng: np.random.Generator, device: torch.device = CPU
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores of edited copies with their sources, by the detector and by the first pass, float32 [edits, n] both.

    Args:
        sources: what is copied, float32 [n, S, S].
        others: what blends mix in, float32 [n, S, S].
        rng: of the edits.
        device: torch device.
    """
    planted = np.stack(
        [np.stack([edit.apply(a, b, rng) for a, b in zip(sources, others, strict=True)]) for edit in EDITS]
    )
    return paired_correlations(planted, sources, device), paired_correlations(planted, sources, device, COARSER)


@dataclass(frozen=True, eq=False)
class Nearest:
    """The most alike pair of every patient, [n patients] each.

    Args:
        scores: float64, the pair's score.
        own: int64, which of the patient's images.
        candidate: int64, which candidate.
    """

    scores: NDArray[np.float64]
    own: NDArray[np.int64]
    candidate: NDArray[np.int64]


def patient_nearest(
    candidates: Pictures,
    patients: Sequence[NDArray[np.float32]],
    device: torch.device = CPU,
    looks: int | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Nearest:
    """Find the most alike pair of every patient.

    Args:
        candidates: pictures [n, S, S].
        patients: float32 [k, S, S] for each patient, k >= 1; may be made on demand.
        device: torch device.
        looks: as the detector was calibrated with.
        told: as ``nearest``; for who holds the images alone.
    """
    if not patients:
        return Nearest(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
    joined = JoinedPictures(patients)
    found, starts = nearest(candidates, joined, device, looks, told), joined.starts
    own = np.array([int(found.scores[first:end].argmax()) for first, end in pairwise(starts)], dtype=np.int64)
    places = starts[:-1] + own
    return Nearest(found.scores[places].astype(np.float64), own, found.places[places])
