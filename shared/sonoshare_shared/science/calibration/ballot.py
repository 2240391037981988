"""The ballot: kinds of phantoms that a hospital's patients vote on, made from phantoms alone.

A pool of phantoms is drawn from the simulator's public priors, described as a whole and by its lesion (`views`), and
each class of the task is divided into clusters. A patient votes for the cluster that one of their images lies nearest
to, among those of the image's class; without a known box the whole picture alone is compared. What the votes say is how
often each kind of picture occurs among patients; which phantom is drawn for it is the pool's.

Promises: no patient is in a ballot; the same task, seed and sizes give the same ballot on one machine. Which option a
patient gets depends on that patient's image, label and box only, whatever the ballot says, so a hostile ballot costs no
more privacy than a useful one. Not promised: that another machine, or a GPU, rounds a feature at a border to the same
side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from sonoshare_shared.errors import InputError, IntegrityError, ModelError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.protocol.documents import Task
from sonoshare_shared.protocol.documents.base import Document, HexDigest, values_given
from sonoshare_shared.science.calibration.views import LESION, VIEWS, directions, projected, seen
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.model.tensors import tensor_bytes, tensors_from
from sonoshare_shared.science.phantom import simulate_recipes
from sonoshare_shared.science.tasks.phantoms import task_recipes

POOL: Final = 6_000
CLUSTERS: Final = 40
POOL_SEED: Final = 900
MAX_CLUSTERS: Final = 4096
FOLDER: Final = "ballots"
"""Folder of ballots in the coordinator's home."""

_SHIPPED: Final = Path(__file__).parent / "ballots"
_BATCH: Final = 256
_DIMENSIONS: Final = {"centroids": 4, "basis": 3, "mean": 2, "members": 1, "lesions": 2}
_TERMS: Final = "terms"
_KNOWN_TO_NUMPY: Final = {torch.uint8, torch.int16, torch.int64, torch.float16, torch.float32, torch.float64}

Progress = Callable[[int, int], None]


class BallotTerms(Document):
    """What a ballot was made for.

    Attributes:
        task: digest of the classes and the phantoms that stand for them; scanners play no part.
        size: side of the pool's pictures in pixels.
        seed: of the pool's series.
    """

    schema_: Literal["sonoshare/ballot/v2"] = Field(default="sonoshare/ballot/v2", alias="schema")
    task: HexDigest
    size: Annotated[int, Field(ge=8, le=512)]
    seed: Annotated[int, Field(ge=0, lt=2**53)]


@dataclass(frozen=True)
class Ballot:
    """A ballot of C classes with K clusters each.

    Attributes:
        terms: what it was made for.
        mean: float32 [2, 1280], mean features of the pool's views.
        basis: float32 [2, 1280, d], their directions, scaled.
        centroids: float32 [C, K, 2, d].
        members: int16 [M], cluster of each picture of the pool within its class; classes take turns.
        lesions: float16 [M, d], the lesion's coordinates of each picture of the pool.
    """

    terms: BallotTerms
    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    centroids: NDArray[np.float32]
    members: NDArray[np.int16]
    lesions: NDArray[np.float16]

    @property
    def classes(self) -> int:
        """C."""
        return int(self.centroids.shape[0])

    @property
    def clusters(self) -> int:
        """K."""
        return int(self.centroids.shape[1])

    @property
    def options(self) -> int:
        """How many options there are, C * K."""
        return self.classes * self.clusters

    def chosen(
        self,
        images: NDArray[np.floating],
        labels: NDArray[np.integer],
        boxes: NDArray[np.floating],
        device: torch.device = CPU,
    ) -> NDArray[np.int64]:
        """The option of each image: its class times K, plus the nearest cluster of that class.

        Args:
            images: [n, S, S], grey levels in 0..1.
            labels: int [n], class of each.
            boxes: [n, 4], of the lesion, in fractions; NaN where unknown.
            device: where features are computed.

        Returns:
            int64 [n], in 0 .. C * K - 1.
        """
        return self.nearest(projected(seen(images, boxes, device), self.mean, self.basis), labels)

    def nearest(self, points: NDArray[np.float32], labels: NDArray[np.integer]) -> NDArray[np.int64]:
        """As `chosen`, of images whose coordinates are known, float32 [n, 2, d]."""
        apart = np.nansum((points[:, None] - self.centroids[labels]) ** 2, axis=(2, 3))
        return np.asarray(labels * self.clusters + np.argmin(apart, axis=1), dtype=np.int64)

    def pool_counts(self) -> NDArray[np.int64]:
        """How many pictures of the pool each cluster holds, int64 [C, K]."""
        classes = np.arange(len(self.members)) % self.classes
        places = classes * self.clusters + self.members
        counts = np.bincount(places, minlength=self.options)
        return np.asarray(counts.reshape(self.classes, self.clusters), dtype=np.int64)

    def to_bytes(self) -> bytes:
        """Canonical bytes (safetensors); their sha256 names the ballot."""
        arrays = {name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in _DIMENSIONS}
        terms = torch.frombuffer(bytearray(self.terms.canonical()), dtype=torch.uint8)
        return tensor_bytes(arrays | {_TERMS: terms})

    def digest(self) -> str:
        """Sha256 of the bytes."""
        return sha256_hex(self.to_bytes())


def ballot_from(data: bytes) -> Ballot:
    """Read a ballot.

    Raises:
        ModelError: the bytes are no ballot, or its parts do not fit each other.
    """
    remedy = "make it again: sonoshare coordinator ballot"
    tensors = tensors_from(data)
    if {tensor.dtype for tensor in tensors.values()} - _KNOWN_TO_NUMPY:
        raise ModelError("this file is not a ballot", remedy=remedy)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    try:
        terms = BallotTerms.from_bytes(arrays.pop(_TERMS, np.empty(0, np.uint8)).tobytes())
    except IntegrityError as error:
        raise ModelError("this file is not a ballot", remedy=remedy) from error
    if {name: array.ndim for name, array in arrays.items()} != _DIMENSIONS:
        raise ModelError("the ballot's parts are not those of a ballot", remedy=remedy)
    mean, basis, centroids, members, lesions = (
        arrays[name] for name in ("mean", "basis", "centroids", "members", "lesions")
    )
    classes, clusters, _, count = centroids.shape
    fits = (mean.shape, basis.shape, centroids.shape[2], lesions.shape) == (
        (VIEWS, features.POOLED),
        (VIEWS, features.POOLED, count),
        VIEWS,
        (len(members), count),
    )
    types = all(part.dtype == np.float32 for part in (mean, basis, centroids))
    types = types and members.dtype == np.int16 and lesions.dtype == np.float16
    if not fits or not types or not 1 <= clusters <= MAX_CLUSTERS or len(members) < classes:
        raise ModelError("the ballot's parts do not fit each other", remedy=remedy)
    if not all(np.isfinite(part).all() for part in (mean, basis, centroids, lesions)):
        raise ModelError("the ballot holds NaN or infinity", remedy=remedy)
    if members.min() < 0 or members.max() >= clusters:
        raise ModelError("the ballot names a cluster that is not there", remedy=remedy)
    ballot = Ballot(terms, mean, basis, centroids, members, lesions)
    if not ballot.pool_counts().all():
        raise ModelError("a cluster of the ballot has no phantom", remedy=remedy)
    return ballot


def task_key(task: Task) -> str:
    """Digest of what a ballot depends on in a task: the classes and their phantoms, in order."""
    return sha256_hex(canonical_bytes({"classes": list(task.classes), "phantoms": task.phantoms}))


def require_ballot_for(ballot: Ballot, task: Task, size: int) -> None:
    """Check that a ballot was made for a task's classes and a picture size.

    Raises:
        InputError: it was made for others.
    """
    if (ballot.terms.task, ballot.terms.size) != (task_key(task), size) or ballot.classes != len(task.classes):
        raise InputError(
            f"the ballot was not made for task {task.name} at {size} px",
            remedy="make one: sonoshare coordinator ballot --task NAME|FILE --profile NAME",
        )


def shipped_ballot(task: Task, size: int) -> Ballot | None:
    """The ballot that ships for a task's classes at a size, or None."""
    for path in sorted(_SHIPPED.glob("*.safetensors")):
        ballot = ballot_from(path.read_bytes())
        if (ballot.terms.task, ballot.terms.size) == (task_key(task), size):
            return ballot
    return None


def make_ballot(
    task: Task,
    size: int,
    *,
    seed: int = POOL_SEED,
    pool: int = POOL,
    clusters: int = CLUSTERS,
    progress: Progress | None = None,
    device: torch.device = CPU,
) -> Ballot:
    """Draw a pool of phantoms and divide it; about 70 CPU-milliseconds a phantom at 64 px.

    Args:
        task: classes and the phantoms that stand for them.
        size: side of the pictures in pixels.
        seed: of the pool's series.
        pool: M, pictures of the pool.
        clusters: K, clusters of each class.
        progress: called with (phantoms done, phantoms in all).
        device: where features are computed.

    Raises:
        InputError: too few phantoms for so many clusters, a seed out of range, or the task has a class that no phantom
            stands for.
    """
    classes = len(task.classes)
    if not (1 <= clusters <= MAX_CLUSTERS and pool >= 4 * clusters * classes):
        raise InputError(
            f"{pool} phantoms are too few for {classes} times {clusters} clusters",
            remedy=f"use at least {4 * clusters * classes} phantoms",
        )
    with values_given("the ballot"):
        terms = BallotTerms(task=task_key(task), size=size, seed=seed)
    found = []
    for first in range(0, pool, _BATCH):
        places = range(first, min(first + _BATCH, pool))
        recipes, labels = task_recipes(task, places, seed=seed)
        drawn = simulate_recipes(recipes, labels, seed=seed, size=size)
        found.append(seen(drawn.images, drawn.boxes, device))
        if progress is not None:
            progress(places.stop, pool)
    both = np.concatenate(found)
    mean, basis = directions(both)
    points = projected(both, mean, basis)
    centroids, members = divided(points, classes, clusters)
    return Ballot(terms, mean, basis, centroids, members, points[:, LESION].astype(np.float16))


def divided(points: NDArray[np.float32], classes: int, clusters: int) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Centroids of each class's clusters, [C, K, 2, d], and the cluster of each picture of the pool, [M].

    Args:
        points: float32 [M, 2, d]; classes take turns.
        classes: C.
        clusters: K, of each class.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415 (slow to import, used by coordinators only)

    members = np.empty(len(points), dtype=np.int16)
    centroids = []
    for label in range(classes):
        own = points[label::classes]
        fitted = KMeans(clusters, n_init=1, random_state=0).fit(own.reshape(len(own), -1))
        members[label::classes] = fitted.labels_
        centroids.append(fitted.cluster_centers_.reshape(clusters, *points.shape[1:]))
    return np.stack(centroids).astype(np.float32), members
