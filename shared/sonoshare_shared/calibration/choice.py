"""From noisy votes to phantoms: how often each kind is drawn, and which phantom stands at a place of a release.

Everything here is post-processing of votes that a ledger was charged for; no patient is read. Picture i of a release
depends on the ballot, the shares, the release's seed and i only, whatever the batch or the worker. A phantom of the
pool that is drawn twice is scanned anew each time: the same breast and lesion, other speckle.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.calibration.ballot import Ballot
from sonoshare_shared.documents import Task
from sonoshare_shared.errors import InputError
from sonoshare_shared.phantom import PhantomBatch, simulate_recipes
from sonoshare_shared.tasks.phantoms import task_recipes

_STREAM: Final = 11  # keeps these draws apart from the simulator's own


def shares_of(ballot: Ballot, votes: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often each cluster is drawn within its class.

    Negative counts are noise. The noisy counts of a class are projected on what counts can be (none negative, the
    same sum): cutting them off at zero alone would give kinds that nobody voted for a share of the noise. A class
    whose noisy votes sum to nothing keeps the shares of the pool.

    Args:
        ballot: the ballot.
        votes: int64 [C * K], noisy votes of all hospitals together.

    Returns:
        float64 [C, K], each row sums to 1.

    Raises:
        InputError: not one number for each option.
    """
    if votes.shape != (ballot.options,):
        raise InputError(f"{votes.size} votes for the {ballot.options} options of the ballot", remedy="vote again")
    counts = votes.reshape(ballot.classes, ballot.clusters).astype(np.float64)
    pool = ballot.pool_counts() / ballot.pool_counts().sum(axis=1, keepdims=True)
    return np.stack([_projected(row) if row.sum() > 0 else own for row, own in zip(counts, pool, strict=True)])


def calibrated_phantoms(
    ballot: Ballot, shares: NDArray[np.float64], task: Task, n: int, *, seed: int, start_index: int = 0
) -> PhantomBatch:
    """Phantoms ``start_index`` to ``start_index + n - 1`` of a release: classes take turns, kinds by their shares.

    Args:
        ballot: made for the task.
        shares: float64 [C, K], from `shares_of`.
        task: the task.
        n: number of pictures.
        seed: of the release.
        start_index: position of the first picture.

    Returns:
        Phantoms whose labels index the task's classes.
    """
    places = [_place(ballot, shares, seed, index) for index in range(start_index, start_index + n)]
    recipes, labels = task_recipes(task, places, seed=ballot.terms.seed)
    again = [replace(recipe, scan=1 + index) for index, recipe in enumerate(recipes, start_index)]
    return simulate_recipes(again, labels, seed=ballot.terms.seed, size=ballot.terms.size)


def _place(ballot: Ballot, shares: NDArray[np.float64], seed: int, index: int) -> int:
    """Place in the pool of the phantom of image ``index``."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, index, _STREAM)))
    label = index % ballot.classes
    cluster = rng.choice(ballot.clusters, p=shares[label])
    inside = np.flatnonzero(ballot.members[label :: ballot.classes] == cluster)
    return int(rng.choice(inside)) * ballot.classes + label


def _projected(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nearest point (least squares) with the same positive sum and no negative entry, divided by that sum."""
    total = counts.sum()
    falling = np.sort(counts)[::-1]
    excess = (np.cumsum(falling) - total) / np.arange(1, len(counts) + 1)
    kept = np.flatnonzero(falling > excess)[-1]
    return np.asarray(np.maximum(counts - excess[kept], 0.0) / total)
