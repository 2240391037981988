"""The most alike candidate of every patient image: over all pairs, or after a coarse first pass over a large set.

The detector takes about 8 microseconds a pair on one core, which is hours for 10^5 candidates and thousands of patient
images. So a large audit takes two stages: of every ``SHARD`` candidates the ``LOOKS`` that the coarse view ranks
highest for a patient image are looked at by the detector, the others are not. Which way is taken is public: it follows
from the number of candidates and the *nominal* number of patients (``looks_for``).

Promises: a patient image's answer depends on that image and the (public) candidates alone, in both ways, so that a
histogram of patients' best scores has sensitivity 1. In two stages every score is one that the detector gives, so that
nothing is flagged which the detector over all pairs would not flag; what the first pass misses is measured on public
images, among the very candidates, and is part of the declared recall (copies.py). Memory is bounded
whatever the number of candidates: features of one shard (64 MB), and a few blocks; whoever makes patients' images on
demand (`JoinedPictures`) holds no more than a few of those either.

Measured (``python -m benchmarks.audit_scale --part recall``: 1216 edited copies of real images, in a shard of unrelated
candidates): the detector finds .9359 of them over all pairs, and .9342 in two stages with any number of looks from 32
to 128; what is lost is turned by 8 degrees. 16 looks lose .0025, 256 still .0008.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_privacy.audits.correlation import (
    COARSER,
    FINE,
    IMAGES_PER_BLOCK,
    View,
    candidate_windows,
    posed_windows,
)
from sonoshare_privacy.audits.search import best_matches, products
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.precision import FLOAT32, computing_in

SHARD: Final = 16_384
"""Candidates whose features are held at a time."""

LOOKS: Final = 128
"""Candidates of each shard that the detector looks at for one patient image, after the first pass."""

EVERY_PAIR_UP_TO: Final = 5_000_000
"""Candidates times nominal patients from which an audit takes two stages: more would be minutes of one core."""

_READ_AT_ONCE: Final = 1024


class Pictures(Protocol):
    """A set of pictures in a fixed order, read slice by slice; a NumPy array is one."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, span: slice, /) -> NDArray[np.float32]:
        """Float32 [m, S, S] in 0..1."""


@dataclass(frozen=True, eq=False)
class BytePictures:
    """Pictures of 8 bits, held at one byte a pixel; a slice of them is float32.

    Args:
        pixels: uint8 [n, S, S].
    """

    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        """How many."""
        return len(self.pixels)

    def __getitem__(self, span: slice, /) -> NDArray[np.float32]:
        """Float32 [m, S, S] in 0..1."""
        return self.pixels[span].astype(np.float32) / np.float32(255)

    def digest(self) -> str:
        """Sha256 of the pixels."""
        return sha256_hex(self.pixels.tobytes())


class JoinedPictures:
    """Pictures of several patients, one patient's after another's; a slice reads the patients that it needs.

    Args:
        patients: float32 [k, S, S] of each patient, k >= 1. A sequence that makes them on demand is asked for a patient
            as often as a slice begins or ends among that patient's pictures, or reaches beyond them.
    """

    def __init__(self, patients: Sequence[NDArray[np.float32]]) -> None:
        self._patients = patients
        self.starts = np.cumsum([0, *(len(images) for images in patients)])
        self._last: tuple[int, NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        """How many pictures."""
        return int(self.starts[-1])

    def __getitem__(self, span: slice, /) -> NDArray[np.float32]:
        """Float32 [m, S, S] in 0..1, m >= 1."""
        start, stop, _ = span.indices(len(self))
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        end = int(np.searchsorted(self.starts, stop, side="left"))
        pictures = np.concatenate([self._of(place) for place in range(first, end)])
        return pictures[start - self.starts[first] : stop - self.starts[first]]

    def _of(self, place: int) -> NDArray[np.float32]:
        """One patient's pictures; those of the last one are kept for the slice that goes on with them."""
        if self._last is None or self._last[0] != place:
            self._last = (place, self._patients[place])
        return self._last[1]


@dataclass(frozen=True, eq=False)
class Found:
    """The most alike candidate of every patient image, [n images] each.

    Args:
        scores: float32, the detector's score.
        places: int64, which candidate.
    """

    scores: NDArray[np.float32]
    places: NDArray[np.int64]


def looks_for(candidates: int, nominal_patients: int) -> int | None:
    """How many candidates of a shard the detector looks at for a patient image; None for all. Public.

    Args:
        candidates: how many there are.
        nominal_patients: nominal number of patients, trained and held out; never the true one.
    """
    return None if candidates * nominal_patients <= EVERY_PAIR_UP_TO else LOOKS


@computing_in(FLOAT32)
def nearest(
    candidates: Pictures,
    images: Pictures,
    device: torch.device = CPU,
    looks: int | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Found:
    """Find each image's best score and the candidate that has it; of equal scores in one shard the first.

    Args:
        candidates: the synthetic set.
        images: patient images, float32 [n, S, S]; read block by block.
        device: torch device.
        looks: candidates of each shard that the detector looks at (``looks_for``); None for all.
        told: called with (images compared, images in all), each image once a shard; for who holds the images alone.
    """
    best = torch.full((len(images),), -torch.inf, device=device)
    found = torch.zeros(len(images), dtype=torch.int64, device=device)
    views = (FINE,) if looks is None else (FINE, COARSER)
    for first, windows in _shards(candidates, device, views):
        for start in range(0, len(images), IMAGES_PER_BLOCK):
            block = images[start : start + IMAGES_PER_BLOCK]
            span = slice(start, start + len(block))
            # Always one shape: libraries choose kernels by it, and kernels the last bits of everybody in the block.
            whole = np.concatenate([block, np.zeros((IMAGES_PER_BLOCK - len(block), *block.shape[1:]), block.dtype)])
            score, place = (part[: len(block)] for part in _best(windows, whole, device, looks))
            better = score > best[span]
            found[span] = torch.where(better, place + first, found[span])
            best[span] = torch.where(better, score, best[span])
            if told is not None:
                done = (first // SHARD) * len(images) + start + len(block)
                told(done, -(-len(candidates) // SHARD) * len(images))
    return Found(best.cpu().numpy(), found.cpu().numpy())


@computing_in(FLOAT32)
def first_pass_limits(
    candidates: Pictures, images: NDArray[np.float32], looks: int, device: torch.device = CPU
) -> NDArray[np.float32]:
    """Coarse score that a candidate must exceed to be looked at, float32 [shards, n images]."""
    limits = []
    for _, (coarse,) in _shards(candidates, device, (COARSER,)):
        scores = best_matches(coarse, posed_windows(images, device, COARSER), looks).scores
        everything = scores.new_full((len(images),), -torch.inf)
        limits.append((scores[:, -1] if len(coarse) >= looks else everything).cpu().numpy())
    return np.stack(limits)


def _best(
    windows: tuple[Tensor, ...], block: NDArray[np.float32], device: torch.device, looks: int | None
) -> tuple[Tensor, Tensor]:
    """Best score and its place in the shard for each image of a block."""
    posed = posed_windows(block, device)
    if looks is None:
        matches = best_matches(windows[0], posed)
        return matches.scores[:, 0], matches.places[:, 0]
    fine, coarse = windows
    ranked = best_matches(coarse, posed_windows(block, device, COARSER), looks).places.sort(dim=1).values
    looked = [products(image, fine[places]).amax(0).max(0) for image, places in zip(posed, ranked, strict=True)]
    at = torch.stack([one.indices for one in looked])
    return torch.stack([one.values for one in looked]), ranked.gather(1, at[:, None])[:, 0]


def _shards(
    candidates: Pictures, device: torch.device, views: tuple[View, ...]
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """Yield the first candidate of each shard, and its windows in the views; pictures are read in small parts."""
    for first in range(0, len(candidates), SHARD):
        last = min(first + SHARD, len(candidates))
        parts = []
        for start in range(first, last, _READ_AT_ONCE):
            pictures = candidates[start : min(start + _READ_AT_ONCE, last)]
            parts.append([candidate_windows(pictures, device, view) for view in views])
        yield first, tuple(torch.cat(windows) for windows in zip(*parts, strict=True))
