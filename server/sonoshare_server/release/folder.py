"""Folders that appear whole or not at all.

Files are written into a new folder beside the final place, and the folder is then renamed: a crash of the process at
any moment leaves either nothing at the final place or all of it; a *durable* folder is flushed first, so that the
same holds for a crash of the machine. What a crash leaves beside it (``.NAME.building``) is removed by the next
attempt.
"""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sonoshare_shared.errors import InputError

_FLUSHES_AT_ONCE: Final = 16


@contextmanager
def appearing(destination: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a folder to build in; when the block ends without an error it becomes ``destination``.

    Args:
        destination: the final place; absent or an empty folder.
        durable: flush every file before the folder appears; for what cannot be made again.

    Raises:
        InputError: there is already something at the destination.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination.name} already exists", remedy="choose another folder or remove it")
    building = destination.parent / f".{destination.name}.building"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
        if durable:
            make_durable(building)
        building.replace(destination)
        _flush(destination.parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def put(folder: Path, path: str, data: bytes) -> None:
    """Write one new file of a folder that is being built."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        file.write(data)


def make_durable(folder: Path) -> None:
    """Flush every file and folder below ``folder`` to the disk."""
    walk = list(os.walk(folder))
    files = [Path(parent) / name for parent, _, names in walk for name in names]
    # Flushes that wait together share one commit of the file system's journal: some thirty times faster than in turn.
    with ThreadPoolExecutor(_FLUSHES_AT_ONCE, "flush") as pool:
        list(pool.map(_flush, files))
    for parent, _, _ in reversed(walk):
        _flush(Path(parent))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
