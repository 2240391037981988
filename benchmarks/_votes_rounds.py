"""Later rounds of votes: pools of phantoms bred from those that patients voted for. An experiment only.

Private Evolution (Lin et al., ICLR 2024; with simulators in place of models: Lin et al., 2025) votes in rounds, each on
variations of what won before. Here a variation is a *cross*: the breast, scanner and settings of one phantom that the
votes prefer, with the lesion of another of its class. Both are drawn by the chances that the votes give, so the pool
closes in on patients round by round; a share of new phantoms keeps it open. Coordinates keep the directions of the
first ballot. docs/measurements/votes.md says what rounds were worth.

A later pool is a function of public things only (the pool before, noisy votes, sharpness, the number of the round).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.protocol.documents import Task
from sonoshare_shared.science.calibration.ballot import Ballot, ballot_from, divided
from sonoshare_shared.science.calibration.choice import pool_place
from sonoshare_shared.science.calibration.views import LESION, projected, seen
from sonoshare_shared.science.model.tensors import read_tensors, write_tensors
from sonoshare_shared.science.phantom import PhantomBatch, Recipe, simulate_recipes
from sonoshare_shared.science.tasks.phantoms import task_recipes

NEW_SHARE: Final = 0.1
"""Of a bred pool: phantoms of the series that no pool held before."""
_STREAM: Final = 13  # keeps these draws apart from the simulator's own and from the release's
_BATCH: Final = 256


@dataclass(frozen=True)
class Pool:
    """What is voted on in a round.

    Attributes:
        ballot: kinds and coordinates of the pool.
        parents: int32 [M, 2], places in the series of the breast and of the lesion of each picture.
    """

    ballot: Ballot
    parents: NDArray[np.int32]

    @classmethod
    def first(cls, ballot: Ballot) -> "Pool":
        """The pool of a ballot of the product: every breast has its own lesion."""
        places = np.arange(len(ballot.members), dtype=np.int32)
        return cls(ballot, np.stack([places, places], axis=1))

    @classmethod
    def read(cls, path: Path) -> "Pool":
        """From a file of `write`."""
        stored = read_tensors(path)
        return cls(ballot_from(stored["ballot"].numpy().tobytes()), stored["parents"].numpy())

    def write(self, path: Path) -> None:
        """Into one safetensors file."""
        ballot = torch.frombuffer(bytearray(self.ballot.to_bytes()), dtype=torch.uint8)
        write_tensors(path, {"ballot": ballot, "parents": torch.from_numpy(self.parents)})

    def recipes(self, task: Task, places: Iterable[int]) -> tuple[list[Recipe], NDArray[np.int64]]:
        """Recipes and classes of the pictures at some places."""
        breasts, lesions = self.parents[list(places)].T.tolist()
        carrying, labels = task_recipes(task, breasts, seed=self.ballot.terms.seed)
        growing, _ = task_recipes(task, lesions, seed=self.ballot.terms.seed)
        crossed = [
            Recipe(breast.index, lesion.kind, breast.scanner, lesion=lesion.index)
            for breast, lesion in zip(carrying, growing, strict=True)
        ]
        return crossed, labels


def drawn(pool: Pool, chances: NDArray[np.float64], task: Task, count: int, *, seed: int) -> PhantomBatch:
    """The first pictures of a release, as `calibrated_phantoms` draws them."""
    terms = pool.ballot.terms
    recipes, labels = pool.recipes(task, [pool_place(pool.ballot, chances, seed, index) for index in range(count)])
    again = [replace(recipe, scan=1 + index) for index, recipe in enumerate(recipes)]
    return simulate_recipes(again, labels, seed=terms.seed, size=terms.size)


def next_pool(pool: Pool, chances: NDArray[np.float64], task: Task, number: int, size: int) -> Pool:
    """The pool of the next round; about 50 CPU-milliseconds a phantom at 64 px.

    Args:
        pool: of the round before.
        chances: float64 [M], how often each of its phantoms is drawn (`choice.chances_of`).
        task: the task that the first ballot was made for.
        number: of the next round, from 2.
        size: how many phantoms it has.
    """
    before, terms = pool.ballot, pool.ballot.terms
    bred = Pool(before, parents(pool, chances, number, size))
    points = []
    for first in range(0, size, _BATCH):
        recipes, labels = bred.recipes(task, range(first, min(first + _BATCH, size)))
        made = simulate_recipes(recipes, labels, seed=terms.seed, size=terms.size)
        points.append(projected(seen(made.images, made.boxes), before.mean, before.basis))
    joined = np.concatenate(points)
    centroids, members = divided(joined, before.classes, before.clusters)
    lesions = joined[:, LESION].astype(np.float16)
    return replace(bred, ballot=replace(before, centroids=centroids, members=members, lesions=lesions))


def parents(pool: Pool, chances: NDArray[np.float64], number: int, size: int) -> NDArray[np.int32]:
    """Parents of the next pool, int32 [size, 2]: classes take turns; see `next_pool`."""
    classes, seed = pool.ballot.classes, pool.ballot.terms.seed
    found = np.empty((size, 2), dtype=np.int32)
    rng = np.random.default_rng(np.random.SeedSequence((seed, number, _STREAM)))
    for label in range(classes):
        own, weights = pool.parents[label::classes], chances[label::classes]
        count = len(range(label, size, classes))
        picked = rng.choice(len(own), size=(2, count), p=weights / weights.sum())
        found[label::classes, 0] = own[picked[0], 0]
        found[label::classes, 1] = own[picked[1], 1]
        new = rng.permutation(count)[: round(NEW_SHARE * count)]
        # Places after those that earlier rounds can have reached: a pool is at most as long as the first.
        places = (number * max(len(pool.parents), size) // classes + new) * classes + label
        found[new * classes + label] = places[:, None]
    return found
