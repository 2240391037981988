"""From noisy votes to phantoms: how often each is drawn, and which one stands at a place of a release.

Everything here is post-processing of votes that a ledger was charged for; no patient is read. Votes say two things.
How often a *kind* occurs among the patients of a class, by its share of the votes; and how the lesions of the *classes*
differ among patients, by the mean lesion of each class, which is the mean of its kinds weighted by their shares. A
phantom is drawn as often as its kind, times the probability that its lesion belongs to its class rather than to
another, raised to the plan's sharpness: phantoms whose lesion is rather another class's among patients become rare.

Picture i of a release depends on the ballot, the chances, the release's seed and i only, whatever the batch or the
worker. A phantom of the pool that is drawn twice is scanned anew each time: the same breast and lesion, other speckle.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import Task
from sonoshare_shared.science.calibration.ballot import Ballot
from sonoshare_shared.science.calibration.views import LESION
from sonoshare_shared.science.phantom import PhantomBatch, simulate_recipes
from sonoshare_shared.science.tasks.phantoms import task_recipes

_STREAM: Final = 11  # keeps these draws apart from the simulator's own
_SINGULAR: Final = 1e-6  # of the largest variance: directions in which a small pool does not vary tell nothing


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


def chances_of(ballot: Ballot, shares: NDArray[np.float64], sharpness: float) -> NDArray[np.float64]:
    """How often each phantom of the pool is drawn within its class.

    Args:
        ballot: the ballot.
        shares: float64 [C, K], from `shares_of`.
        sharpness: >= 0; 0 draws kinds by their shares alone.

    Returns:
        float64 [M]; the phantoms of each class sum to 1.
    """
    with np.errstate(divide="ignore"):  # nobody voted for this kind: never drawn
        as_voted = np.log(shares / ballot.pool_counts())[_classes(ballot), ballot.members]
    weights = as_voted + sharpness * typicality(ballot, shares)
    chances = np.empty(len(weights))
    for label in range(ballot.classes):
        chances[label :: ballot.classes] = softmax(weights[label :: ballot.classes])
    return chances


def typicality(ballot: Ballot, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probability that the lesion of each phantom of the pool is of its own class.

    By linear discriminant analysis with equal priors (Fisher 1936): class means are those that the votes tell, the
    covariance within a class is the pool's.

    Args:
        ballot: the ballot.
        shares: float64 [C, K], from `shares_of`.

    Returns:
        float64 [M], at most 0.
    """
    classes, lesions = _classes(ballot), ballot.lesions.astype(np.float64)
    means = np.einsum("ck,ckd->cd", shares, ballot.centroids[:, :, LESION].astype(np.float64))
    own = np.stack([lesions[classes == label].mean(axis=0) for label in range(ballot.classes)])
    inside = lesions - own[classes]
    precision = np.linalg.pinv(inside.T @ inside / len(inside), rcond=_SINGULAR, hermitian=True)
    scores = lesions @ precision @ means.T - 0.5 * np.einsum("cd,de,ce->c", means, precision, means)
    return np.asarray(log_softmax(scores, axis=1)[np.arange(len(scores)), classes])


def calibrated_phantoms(
    ballot: Ballot, chances: NDArray[np.float64], task: Task, n: int, *, seed: int, start_index: int = 0
) -> PhantomBatch:
    """Phantoms ``start_index`` to ``start_index + n - 1`` of a release: classes take turns.

    Args:
        ballot: made for the task.
        chances: float64 [M], from `chances_of`.
        task: the task.
        n: number of pictures.
        seed: of the release.
        start_index: position of the first picture.

    Returns:
        Phantoms whose labels index the task's classes.
    """
    places = [pool_place(ballot, chances, seed, index) for index in range(start_index, start_index + n)]
    recipes, labels = task_recipes(task, places, seed=ballot.terms.seed)
    again = [replace(recipe, scan=1 + index) for index, recipe in enumerate(recipes, start_index)]
    return simulate_recipes(again, labels, seed=ballot.terms.seed, size=ballot.terms.size)


def _classes(ballot: Ballot) -> NDArray[np.int64]:
    """Class of each phantom of the pool, [M]."""
    return np.arange(len(ballot.members)) % ballot.classes


def pool_place(ballot: Ballot, chances: NDArray[np.float64], seed: int, index: int) -> int:
    """Place in the pool of the phantom of image ``index``."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, index, _STREAM)))
    label = index % ballot.classes
    own = chances[label :: ballot.classes]
    return int(rng.choice(len(own), p=own)) * ballot.classes + label


def _projected(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nearest point (least squares) with the same positive sum and no negative entry, divided by that sum."""
    total = counts.sum()
    falling = np.sort(counts)[::-1]
    excess = (np.cumsum(falling) - total) / np.arange(1, len(counts) + 1)
    kept = np.flatnonzero(falling > excess)[-1]
    return np.asarray(np.maximum(counts - excess[kept], 0.0) / total)
