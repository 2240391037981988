"""A training set of simulated phantoms, made once and kept in a folder.

Shards of 500 phantoms are written whole or not at all, so an interrupted simulation goes on where it stopped. The
first phantoms are simulated again whenever the folder is opened: a cache that another version of the simulator has
made is refused.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
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
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> BasePictures:
    """Open a cache, simulating what it lacks.

    Args:
        folder: made if absent.
        count: phantoms wanted; rounded up to whole shards of 500.
        seed: of the simulation.
        size: side of the images, px.
        jobs: processes that simulate, each a shard at a time.
        progress: called with (phantoms ready, phantoms wanted).

    Raises:
        InputError: the folder holds phantoms of another simulator version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"phantoms-{size}px-seed{seed}-{shard:04d}.safetensors" for shard in range(-(-count // _SHARD))]
    missing = [(path, shard * _SHARD) for shard, path in enumerate(paths) if not path.exists()]
    ready = len(paths) - len(missing)
    for made, _ in enumerate(_simulated(missing, seed, size, jobs), start=ready + 1):
        if progress is not None:
            progress(min(made * _SHARD, count), count)
    parts = [_with_masks(read_tensors(path)) for path in paths]
    probe = simulate_set(_PROBES, seed=seed, size=size)
    if not torch.equal(probe.images, parts[0].images[:_PROBES]):
        raise InputError("cached phantoms come from another simulator", remedy="give an empty folder")
    return joined(parts)


def _simulated(missing: list[tuple[Path, int]], seed: int, size: int, jobs: int) -> Iterator[None]:
    """Write shards that are missing; yields once for each."""
    if jobs == 1 or len(missing) < 2:
        for path, first in missing:
            _write_shard(path, first, _SHARD, seed, size)
            yield
        return
    # Spawned, not forked: a child of a process that has threads of torch may hang.
    with ProcessPoolExecutor(min(jobs, len(missing)), multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_write_shard, *each, _SHARD, seed, size) for each in missing]):
            yield done.result()


def _write_shard(path: Path, first: int, count: int, seed: int, size: int) -> None:
    made = simulate_set(count, seed=seed, size=size, start_index=first)
    write_tensors(path, {name: vars(made)[name] for name in _STORED})


def _with_masks(stored: State) -> BasePictures:
    """A set of phantoms, whose masks are all known."""
    return BasePictures(**stored, has_mask=torch.ones(len(stored["labels"]), dtype=torch.bool))
