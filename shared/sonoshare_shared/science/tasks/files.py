"""Reading a task by its shipped name or from a file; the one way in for every command.

A shipped task is a JSON file beside this module. A word without a path separator and without an ending is looked up
among them, everything else is a path. Which phantoms stand for the classes is checked where phantoms are made.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sonoshare_shared.bounded import read_bounded
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import Task

_MOST_BYTES: Final = 1 << 20
"""A task is a page of words."""

FOLDER: Final = Path(__file__).parent
ENDING: Final = ".json"


def shipped_tasks() -> tuple[str, ...]:
    """Names of the tasks that ship, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob(f"*{ENDING}")))


def with_scanners(task: Task, scanners: Sequence[str]) -> Task:
    """The same task with a consortium's devices; none given leaves it as it is.

    Raises:
        IntegrityError: too many scanners, or one named twice.
    """
    if not scanners:
        return task
    return Task.from_bytes(task.model_copy(update={"scanners": tuple(scanners)}).canonical())


def read_task(name_or_path: str | Path) -> Task:
    """Read a task.

    Args:
        name_or_path: the name of a shipped task, or the path of a task file.

    Raises:
        InputError: no such task, or the file cannot be read.
        IntegrityError: it is not a task; the message names the first wrong field.
    """
    path = Path(name_or_path)
    if path.name == str(name_or_path) and not path.suffix and not path.is_file():
        if path.name not in shipped_tasks():
            raise InputError(
                f"unknown task {path.name[:40]!r}",
                remedy=f"use one of {', '.join(shipped_tasks())}, or a file (see 'Add a task' in CONTRIBUTING.md)",
            )
        path = FOLDER / f"{path.name}{ENDING}"
    try:
        data = read_bounded(path, _MOST_BYTES)
    except OSError as error:
        raise InputError(f"cannot read task file {path.name}: {error.strerror}", remedy="check the path") from error
    return Task.from_bytes(data)
