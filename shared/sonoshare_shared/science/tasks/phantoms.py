"""Phantoms that stand for a task's classes, and where its class embeddings start.

A task file says for each class which pathologies of the simulator stand for it, in shares; a task that says nothing
names its classes as the simulator names its pathologies. Which pathology image i shows depends on the seed, i and the
task only. Where two classes have the same shares (``prognosis``), phantoms do not tell them apart: what does is learned
from patients alone.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import Task
from sonoshare_shared.science.model.base_pictures import CLASSES as BASE_CLASSES
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.phantom import CLASSES as PATHOLOGIES
from sonoshare_shared.science.phantom import SCANNER_STYLES, PhantomBatch, Recipe, simulate_recipes

_NEAREST_IN_BASE: Final = {"in-situ": "malignant"}  # pathologies that the base weights were not trained on
_STREAM: Final = 7  # keeps these draws apart from the simulator's own


def pathology_shares(task: Task) -> tuple[Mapping[str, float], ...]:
    """For each class, the pathologies that stand for it and their shares.

    Raises:
        InputError: a pathology that the simulator does not know.
    """
    shares = tuple(task.phantoms.get(name, {name: 1.0}) for name in task.classes)
    for name, each in zip(task.classes, shares, strict=True):
        if unknown := sorted(set(each) - set(PATHOLOGIES)):
            raise InputError(
                f"class {name!r} of task {task.name}: the simulator knows no pathology {unknown[0][:40]!r}",
                remedy=f"give shares of {', '.join(PATHOLOGIES)} under 'phantoms' in the task file",
            )
    return shares


def task_phantoms(task: Task, n: int, *, seed: int, size: int, start_index: int = 0) -> PhantomBatch:
    """Phantoms ``start_index`` to ``start_index + n - 1`` of a task: classes take turns, scanners over all classes.

    Args:
        task: classes and their pathologies.
        n: number of pictures.
        seed: of the series.
        size: side in pixels.
        start_index: position of the first picture.

    Returns:
        Phantoms whose labels index the *task's* classes.

    Raises:
        InputError: as `pathology_shares` and `simulate`.
    """
    recipes, labels = task_recipes(task, range(start_index, start_index + n), seed=seed)
    return simulate_recipes(recipes, labels, seed=seed, size=size)


def task_recipes(task: Task, indices: Iterable[int], *, seed: int) -> tuple[list[Recipe], NDArray[np.int64]]:
    """Which pictures of the simulator stand at these places of a task's series, and their classes in the task.

    Raises:
        InputError: as `pathology_shares`.
    """
    shares, places = pathology_shares(task), list(indices)
    labels = np.array(places, dtype=np.int64) % len(task.classes)
    styles = np.array(places, dtype=np.int64) // len(task.classes) % len(SCANNER_STYLES)
    kinds = (_drawn(shares[label], seed, index) for index, label in zip(places, labels.tolist(), strict=True))
    recipes = [Recipe(*each) for each in zip(places, kinds, styles.tolist(), strict=True)]
    return recipes, labels


def start_at_task(model: ConditionedUNet, task: Task) -> None:
    """Let each class embedding start as that of the pathology with the largest share, each scanner as "absent".

    Public, sees no patient. The base's upper scanner slots are the simulator's styles, no consortium's devices.

    Raises:
        InputError: as `pathology_shares`.
    """
    slots = []
    for each in pathology_shares(task):
        likeliest = max(sorted(each), key=lambda name: each[name])
        slots.append(BASE_CLASSES.index(_NEAREST_IN_BASE.get(likeliest, likeliest)))
    weight = model.class_embedding.weight
    scanners = model.scanner_embedding.weight
    with torch.no_grad():
        weight[: len(slots)] = weight[slots].clone()
        scanners[: len(task.scanners)] = scanners[-1].clone()


def _drawn(shares: Mapping[str, float], seed: int, index: int) -> str:
    names = sorted(shares)
    if len(names) == 1:
        return names[0]
    weights = np.array([shares[name] for name in names])
    rng = np.random.default_rng(np.random.SeedSequence((seed, index, _STREAM)))
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]
