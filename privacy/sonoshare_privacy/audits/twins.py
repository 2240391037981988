"""Twins: likely one person under two patient identifiers, found by the copy detector before the split matters.

A person who stands under two identifiers is two privacy units (the promise is halved for that person), and one who
stands on both sides of the split makes the held-out patients look copied. So intake compares every new picture with
every picture of every *other* patient, in two steps: a coarse product over all pairs, of which those are kept that
reach ``_WORTH_A_LOOK`` (exactly those: rounded.py rules the others out), then the detector itself on the few pairs that
rank highest, in both directions.

The second step goes down the ranking as long as it finds something: it ends when everything worth a look was looked at,
or when a whole batch of looks has found nothing. Where it must stop before that, because a bound on the work is
reached, it says so (``Search.complete``), and who is new must not take part.

Promises: a pair's score is the detector's (correlation.py). Everything here is the hospital's own: scores, pairs and
their number are functions of patients without noise and must never leave it. Does not promise: two *different* views
of a person do not look alike to this detector; what is found is the same view, or almost, under two identifiers.

Measured on BUS-BRA (1875 images, 1.7 million pairs of different patients): four pairs of images score above .70, all
of two pairs of identifiers that show one person each (bus_0056 and bus_0091, bus_0044 and bus_0065); tails grow by
about .06 for every factor of ten in pairs.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_privacy.audits.correlation import (
    COARSE,
    candidate_windows,
    paired_correlations,
    posed_windows,
)
from sonoshare_privacy.audits.rounded import Reaching
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

_LEAST_BATCH: Final = 100
_BATCH_PER_IMAGE: Final = 0.05
"""Looks in a batch; the search ends after a batch that finds nothing."""

_LEAST_MOST: Final = 2000
_MOST_PER_IMAGE: Final = 4
"""Looks in all: more than one patient who looks like everybody can use up."""

_LOOKS_PER_PEOPLE: Final = 3
"""Two patients with many like images must not crowd others out."""

_RANKED_PER_LOOK: Final = 10
_POSED_AT_ONCE: Final = 32
_WINDOWS_AT_ONCE: Final = 512


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


@dataclass(frozen=True)
class Search:
    """What a search has found.

    Args:
        twins: pairs of patients, the most alike first; one pair of images each.
        complete: False where it had to stop while it was still finding pairs.
    """

    twins: tuple[Twin, ...]
    complete: bool


@computing_in(FLOAT32)
def find_twins(
    images: NDArray[np.float32],
    owners: NDArray[np.int64],
    new: NDArray[np.bool_],
    device: torch.device = CPU,
    *,
    known: Collection[tuple[int, int]] = (),
) -> Search:
    """Find the pairs of patients that look like one person.

    Args:
        images: float32 [n, S, S] in 0..1, in the order of intake.
        owners: int64 [n], whose each is.
        new: bool [n], which have not been compared yet; pairs of two old images are left alone.
        device: torch device.
        known: pairs of owners, the smaller first, that were found earlier: passed over, so that a search that had to
            stop goes on where it stopped.

    Raises:
        InputError: the three do not belong together.
    """
    if not len(images) == len(owners) == len(new):
        raise InputError("twins are sought among images with one owner and one mark each")
    ranked, whole = _likely(images, owners, new, device, frozenset(known))
    batch = max(_LEAST_BATCH, round(_BATCH_PER_IMAGE * len(images)))
    least, best = threshold(owners, new), dict[tuple[int, int], Twin]()
    complete = whole
    for start in range(0, len(ranked), batch):
        hits = [twin for twin in _looked_at(images, ranked[start : start + batch], device) if twin.score >= least]
        for twin in hits:
            people = _people(owners, (twin.first, twin.second))
            best[people] = max(twin, best.get(people, twin), key=lambda one: one.score)
        if not hits and len(ranked[start:]) >= batch:
            complete = True
            break
    return Search(tuple(sorted(best.values(), key=lambda one: -one.score)), complete)


def _looked_at(images: NDArray[np.float32], pairs: Sequence[tuple[int, int]], device: torch.device) -> Iterator[Twin]:
    """The detector's word on each pair, in the better of both directions."""
    places = np.array(pairs)
    there, back = (
        paired_correlations(images[places[:, one]][None], images[places[:, other]], device)[0]
        for one, other in ((0, 1), (1, 0))
    )
    for (first, second), score in zip(pairs, np.maximum(there, back), strict=True):
        yield Twin(first, second, float(min(score, 1.0)))


def threshold(owners: NDArray[np.int64], new: NDArray[np.bool_]) -> float:
    """Score from which a pair is reported: the measured one, raised where more pairs give chance more room."""
    fresh = int(new.sum())
    pairs = max(1, fresh * len(owners) - fresh * fresh // 2)
    return min(HIGHEST, THRESHOLD + STEP * max(0.0, math.log10(pairs / MEASURED_PAIRS)))


def _likely(
    images: NDArray[np.float32],
    owners: NDArray[np.int64],
    new: NDArray[np.bool_],
    device: torch.device,
    known: frozenset[tuple[int, int]],
) -> tuple[list[tuple[int, int]], bool]:
    """Pairs that the coarse view ranks highest, each once with the smaller index first, and whether these are all."""
    most = max(_LEAST_MOST, _MOST_PER_IMAGE * len(images))
    fresh, earlier = np.flatnonzero(new), np.flatnonzero(~new)
    ranking = _Ranking(_RANKED_PER_LOOK * most, owners, known)
    windows = _windows(images, device)
    for posed, others in ((fresh, np.arange(len(images))), (earlier, fresh)):
        compared = Reaching(windows if len(others) == len(images) else windows[others], _WORTH_A_LOOK)
        for start in range(0, len(posed), _POSED_AT_ONCE):
            part = posed[start : start + _POSED_AT_ONCE]
            for place, turned in zip(part, posed_windows(images[part], device, COARSE), strict=True):
                at, scores = compared.with_posed(turned)
                ranking.add(scores, others[at], int(place))
    chosen = ranking.pairs()
    return chosen[:most], ranking.whole and len(chosen) <= most


def _people(owners: NDArray[np.int64], pair: tuple[int, int]) -> tuple[int, int]:
    one, other = sorted((int(owners[pair[0]]), int(owners[pair[1]])))
    return one, other


def _windows(images: NDArray[np.float32], device: torch.device) -> Tensor:
    blocks = range(0, len(images), _WINDOWS_AT_ONCE)
    none = torch.empty(0, COARSE.window**2, device=device)
    return torch.cat([none, *(candidate_windows(images[i : i + _WINDOWS_AT_ONCE], device, COARSE) for i in blocks)])


class _Ranking:
    """Pairs worth a look, the highest scores first; memory does not grow with the number of pairs.

    Args:
        most: pairs that are kept; each may come up in both directions.
        owners: whose each image is.
        known: pairs of owners that are passed over.
    """

    def __init__(self, most: int, owners: NDArray[np.int64], known: frozenset[tuple[int, int]]) -> None:
        self._most, self._owners, self._known = most, owners, known
        self._parts = [(np.empty(0, np.float32), np.empty((0, 2), np.int64))]
        self._held = 0
        self.whole = True
        """No pair worth a look had to be dropped for want of room."""

    def add(self, scores: NDArray[np.float32], others: NDArray[np.int64], posed: int) -> None:
        """Take in the scores of one posed image with others; those of its own owner are left out."""
        strangers = self._owners[others] != self._owners[posed]
        places = np.stack([others[strangers], np.full(int(strangers.sum()), posed)], axis=1)
        self._parts.append((scores[strangers], np.sort(places, axis=1)))
        self._held += len(places)
        if self._held > 2 * self._most:
            self._make_room()

    def pairs(self) -> list[tuple[int, int]]:
        """In falling order of score, of equal ones the earlier, each once, a few at most of the same two people."""
        ((_, places),) = self._make_room()
        return [(int(first), int(second)) for first, second in places]

    def _make_room(self) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        scores, places = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        order = np.lexsort((places[:, 1], places[:, 0], -scores))
        looked: Counter[tuple[int, int]] = Counter()
        seen: set[tuple[int, int]] = set()
        kept = []
        for place in order:
            pair = (int(places[place, 0]), int(places[place, 1]))
            people = _people(self._owners, pair)
            if pair in seen or people in self._known or looked[people] == _LOOKS_PER_PEOPLE:
                continue
            seen.add(pair)
            looked[people] += 1
            kept.append(place)
        self.whole = self.whole and len(kept) <= self._most
        chosen = np.array(kept[: self._most], np.int64)
        self._parts, self._held = [(scores[chosen], places[chosen])], len(chosen)
        return self._parts
