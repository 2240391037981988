"""Twins: likely one person under two patient identifiers, found by the copy detector before the split matters.

A person who stands under two identifiers is two privacy units (the promise is halved for that person), and one who
stands on both sides of the split makes the held-out patients look copied. So intake compares every new picture with
every picture of every *other* patient, in two steps: a coarse blocked matrix product over all pairs (exact for what it
computes, no index), then the detector itself on the few pairs that rank highest, in both directions.

Promises: a pair's score is the detector's (correlation.py). Everything here is the hospital's own: scores, pairs and
their number are functions of patients without noise and must never leave it. Does not promise: two *different* views
of a person do not look alike to this detector; what is found is the same view, or almost, under two identifiers.

Measured on BUS-BRA (1875 images, 1.7 million pairs of different patients): four pairs of images score above .70, all
of two pairs of identifiers that show one person each (bus_0056 and bus_0091, bus_0044 and bus_0065); tails grow by
about .06 for every factor of ten in pairs.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_privacy.audits.correlation import (
    COARSE,
    candidate_windows,
    pair_scores,
    paired_correlations,
    posed_windows,
)
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.precision import FLOAT32, computing_in

THRESHOLD: Final = 0.7
"""Score from which two patients are reported, up to MEASURED_PAIRS pairs of images."""

MEASURED_PAIRS: Final = 2_000_000
STEP: Final = 0.06
"""Added for every factor of ten in pairs beyond MEASURED_PAIRS."""

HIGHEST: Final = 0.9

_WORTH_A_LOOK: Final = 0.6
"""Coarse score below which a pair is left alone: one in 2000 of BUS-BRA's pairs reaches it, its twins score .82."""

_LEAST_LOOKS: Final = 100
_LOOKS_PER_IMAGE: Final = 0.05
_LOOKS_PER_PEOPLE: Final = 3
"""Two patients with many like images must not crowd others out."""

_RANKED_PER_LOOK: Final = 20
_POSED_AT_ONCE: Final = 32
_WINDOWS_AT_ONCE: Final = 8192


@dataclass(frozen=True)
class Twin:
    """Two images of different patients that look like one person.

    Args:
        first: index of the one image.
        second: index of the other, larger than ``first``.
        score: the detector's score, at most 1.
    """

    first: int
    second: int
    score: float


@computing_in(FLOAT32)
def find_twins(
    images: NDArray[np.float32],
    owners: NDArray[np.int64],
    new: NDArray[np.bool_],
    device: torch.device = CPU,
) -> tuple[Twin, ...]:
    """Find the pairs of patients that look like one person, the most alike first; one pair of images each.

    Args:
        images: float32 [n, S, S] in 0..1, in the order of intake.
        owners: int64 [n], whose each is.
        new: bool [n], which have not been compared yet; pairs of two old images are left alone.
        device: torch device.

    Raises:
        InputError: the three do not belong together.
    """
    if not len(images) == len(owners) == len(new):
        raise InputError("twins are sought among images with one owner and one mark each")
    ranked = _likely(images, owners, new, device)
    if not ranked:
        return ()
    pairs = np.array(ranked)
    there, back = (
        paired_correlations(images[pairs[:, one]][None], images[pairs[:, other]], device)[0]
        for one, other in ((0, 1), (1, 0))
    )
    best: dict[tuple[int, int], Twin] = {}
    for (first, second), score in zip(ranked, np.maximum(there, back), strict=True):
        if score >= threshold(owners, new):
            people = _people(owners, (first, second))
            twin = Twin(first, second, float(min(score, 1.0)))
            best[people] = max(twin, best.get(people, twin), key=lambda one: one.score)
    return tuple(sorted(best.values(), key=lambda one: -one.score))


def threshold(owners: NDArray[np.int64], new: NDArray[np.bool_]) -> float:
    """Score from which a pair is reported: the measured one, raised where more pairs give chance more room."""
    fresh = int(new.sum())
    pairs = max(1, fresh * len(owners) - fresh * fresh // 2)
    return min(HIGHEST, THRESHOLD + STEP * max(0.0, math.log10(pairs / MEASURED_PAIRS)))


def _likely(
    images: NDArray[np.float32], owners: NDArray[np.int64], new: NDArray[np.bool_], device: torch.device
) -> list[tuple[int, int]]:
    """Pairs that the coarse view ranks highest, each once with the smaller index first."""
    looks = max(_LEAST_LOOKS, round(_LOOKS_PER_IMAGE * len(images)))
    everybody, fresh, known = np.arange(len(images)), np.flatnonzero(new), np.flatnonzero(~new)
    ranking = _Ranking(_RANKED_PER_LOOK * looks)
    windows = _windows(images, device)
    owner = torch.as_tensor(owners, device=device)
    for posed, others in ((fresh, everybody), (known, fresh)):
        for start in range(0, len(posed), _POSED_AT_ONCE):
            part = posed[start : start + _POSED_AT_ONCE]
            turned = posed_windows(images[part], device, COARSE)
            for first in range(0, len(others), _WINDOWS_AT_ONCE):
                rows = others[first : first + _WINDOWS_AT_ONCE]
                scores = pair_scores(windows[rows], turned)
                scores[owner[rows][:, None] == owner[part][None]] = -torch.inf
                ranking.add(scores, rows, part)
    looked: Counter[tuple[int, int]] = Counter()
    chosen = []
    for pair in ranking.pairs():
        people = _people(owners, pair)
        looked[people] += 1
        if looked[people] <= _LOOKS_PER_PEOPLE:
            chosen.append(pair)
    return chosen[:looks]


def _people(owners: NDArray[np.int64], pair: tuple[int, int]) -> tuple[int, int]:
    one, other = sorted((int(owners[pair[0]]), int(owners[pair[1]])))
    return one, other


def _windows(images: NDArray[np.float32], device: torch.device) -> Tensor:
    blocks = range(0, len(images), _WINDOWS_AT_ONCE)
    none = torch.empty(0, COARSE.window**2, device=device)
    return torch.cat([none, *(candidate_windows(images[i : i + _WINDOWS_AT_ONCE], device, COARSE) for i in blocks)])


class _Ranking:
    """The highest scores seen so far, and which pairs have them; memory does not grow with the number of pairs."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._scores = np.empty(0, np.float32)
        self._places = np.empty((0, 2), np.int64)

    def add(self, scores: Tensor, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """Take in a block of scores [rows, columns]."""
        values, flat = scores.flatten().topk(min(self._most, scores.numel()))
        top, index = values.cpu().numpy(), flat.cpu().numpy()
        places = np.stack([rows[index // len(columns)], columns[index % len(columns)]], axis=1)
        merged, at = np.concatenate([self._scores, top]), np.concatenate([self._places, places])
        kept = np.argsort(-merged, kind="stable")[: self._most]
        self._scores, self._places = merged[kept], at[kept]

    def pairs(self) -> list[tuple[int, int]]:
        """Pairs worth a look in falling order of score, each once although it came up in both directions."""
        worthy = self._places[self._scores >= _WORTH_A_LOOK]
        return list(dict.fromkeys((int(min(pair)), int(max(pair))) for pair in worthy))
