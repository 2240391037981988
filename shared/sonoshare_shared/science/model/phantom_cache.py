"""A training set of simulated phantoms, made once and kept in a folder.

Shards of 500 phantoms are written whole or not at all, so an interrupted simulation goes on where it stopped. The
first phantoms are simulated again whenever the folder is opened: a cache that another version of the simulator has
made is refused.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.model.base_pictures import CLASSES, BasePictures, joined
from sonoshare_shared.science.model.tensors import State, read_tensors, write_tensors
from sonoshare_shared.science.phantom import SCANNER_STYLES, Recipe, simulate_recipes

_SHARD = 500
_PROBES = 2
_STORED = ("images", "masks", "boxes", "labels", "scanners")
# Lesions are what the model is for; normal breasts teach what a box of nothing means.
_LABEL_CYCLE = (0, 1, 0, 1, 2)


def base_recipes(start: int, count: int) -> tuple[list[Recipe], NDArray[np.int64]]:
    """Phantoms ``start`` to ``start + count - 1`` of the series that bases learn from, and their classes.

    Raises:
        InputError: a number is negative.
    """
    if start < 0 or count < 0:
        raise InputError(f"no phantoms {start} to {start + count}", remedy="give numbers of 0 or more")
    index = np.arange(start, start + count)
    labels = np.asarray(_LABEL_CYCLE, dtype=np.int64)[index % len(_LABEL_CYCLE)]
    scanners = (index // len(_LABEL_CYCLE)) % len(SCANNER_STYLES)
    chosen = zip(index.tolist(), labels.tolist(), scanners.tolist(), strict=True)
    return [Recipe(place, CLASSES[label], scanner) for place, label, scanner in chosen], labels


def simulate_set(count: int, *, seed: int, size: int, start_index: int = 0) -> BasePictures:
    """Simulate phantoms ``start_index`` to ``start_index + count - 1``; classes and scanners go round."""
    batch = simulate_recipes(*base_recipes(start_index, count), seed=seed, size=size)
    return _with_masks(
        {
            "images": torch.from_numpy(eight_bits(batch.images)),
            "masks": torch.from_numpy(batch.masks),
            "boxes": torch.from_numpy(batch.boxes),
            "labels": torch.from_numpy(batch.labels),
            "scanners": torch.from_numpy(batch.scanners),
        }
    )


def cached_phantoms(
    folder: Path,
    *,
    count: int,
    seed: int,
    size: int,
    progress: Callable[[int, int], None] | None = None,
) -> BasePictures:
    """Open a cache, simulating what it lacks.

    Args:
        folder: made if absent.
        count: phantoms wanted; rounded up to whole shards of 500.
        seed: of the simulation.
        size: side of the images, px.
        progress: called with (phantoms ready, phantoms wanted).

    Raises:
        InputError: the folder holds phantoms of another simulator version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-count // _SHARD)
    parts = []
    for shard in range(shards):
        path = folder / f"phantoms-{size}px-seed{seed}-{shard:04d}.safetensors"
        if not path.exists():
            made = simulate_set(_SHARD, seed=seed, size=size, start_index=shard * _SHARD)
            write_tensors(path, {name: vars(made)[name] for name in _STORED})
        part = _with_masks(read_tensors(path))
        if shard == 0:
            probe = simulate_set(_PROBES, seed=seed, size=size)
            if not torch.equal(probe.images, part.images[:_PROBES]):
                raise InputError("cached phantoms come from another simulator", remedy="give an empty folder")
        parts.append(part)
        if progress is not None:
            progress(min((shard + 1) * _SHARD, count), count)
    return joined(parts)


def _with_masks(stored: State) -> BasePictures:
    """A set of phantoms, whose masks are all known."""
    return BasePictures(**stored, has_mask=torch.ones(len(stored["labels"]), dtype=torch.bool))
