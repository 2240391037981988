"""Where a training goes on from: the newest whole set of parts in a folder.

``work/checkpoint-medium/step-000003000/`` holds weights, averaged weights and both moments of the optimiser in float32,
as parts of at most 16 MiB (`weight_parts`), and an index with the run's settings and what it has cost so far. Parts are
small so that a folder can be carried to another machine by whatever takes files.

Promises: a set appears whole or not at all, whatever is killed and whenever; the newest set that is whole and undamaged
is read, older ones stand in for one that is not; the two newest are kept. On a CPU a run that went on from a
set equals one that was not interrupted (`base_run`); on any device it goes on from the very same numbers.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sonoshare_shared.durable import appearing
from sonoshare_shared.errors import InputError, IntegrityError, ModelError
from sonoshare_shared.science.model.tensors import State, tensor_bytes, tensors_from
from sonoshare_shared.science.model.weight_parts import PART_BYTES, joined_parts, put_parts

KEPT: Final = 2
_NAME: Final = "checkpoint.safetensors"
_SET: Final = re.compile(r"step-(\d{9})")
_RUN: Final = "run"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on.

    Args:
        tensors: by name, float32, on the CPU.
        run: settings, steps done and the like, JSON-able.
    """

    tensors: State
    run: Mapping[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint, most: int = PART_BYTES) -> Path:
    """Add a set; returns its folder. Sets older than the two newest are removed, and what a crash has left.

    Args:
        folder: of the sets, made if absent.
        step: steps done; a whole set of that step that is there is left as it is.
        checkpoint: what is kept.
        most: bytes of a part.

    Raises:
        OSError: it could not be written; older sets are as they were.
    """
    destination = folder / f"step-{step:09d}"
    if _read(destination) is None:
        shutil.rmtree(destination, ignore_errors=True)  # damaged, and passed over when this run began
        with appearing(destination, durable=True) as building:
            put_parts(building, _NAME, tensor_bytes(checkpoint.tensors), {_RUN: json.dumps(dict(checkpoint.run))}, most)
    for old in _sets(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    for left in folder.glob(".step-*.building"):
        shutil.rmtree(left, ignore_errors=True)
    return destination


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest set that is whole; None where there is no set at all.

    Raises:
        ModelError: there are sets, and none is whole.
    """
    sets = _sets(folder)
    for path in sets:
        found = _read(path)
        if found is not None:  # else a part was lost or damaged on its way: the set before it may be whole
            return found
    if sets:
        raise ModelError(
            f"no set of parts in {folder.name} is whole", remedy="put the missing parts back, or begin in a new folder"
        )
    return None


def _read(path: Path) -> Checkpoint | None:
    try:
        index, data = joined_parts(path)
        return Checkpoint(tensors_from(data), json.loads(index.about[_RUN]))
    except (InputError, IntegrityError, ModelError, KeyError, ValueError):
        return None


def _sets(folder: Path) -> list[Path]:
    """Folders of sets, newest first."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if _SET.fullmatch(path.name)), key=lambda path: path.name, reverse=True)
