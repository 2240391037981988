"""A process that is killed, or whose disk fills up, at its n-th file operation below a folder."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

OPERATIONS = frozenset({"open", "os.rename", "os.link", "os.remove", "os.truncate", "os.mkdir", "os.rmdir"})
"""What Python announces to audit hooks; flushing to the disk is not announced and is counted besides."""


def killed_at(step: int, act: Callable[[], object], folder: Path) -> bool:
    """Run ``act`` in a child that kills itself, with no chance to tidy up, before operation ``step``.

    Returns:
        False when the child came to its end: it has no such operation.
    """
    child = os.fork()
    if child == 0:
        try:
            _watch(step, folder, lambda: os.kill(os.getpid(), signal.SIGKILL))
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@contextmanager
def full_disk_after(step: int) -> Iterator[list[bool]]:
    """From flush ``step`` on the disk is full; gives a list that is not empty when it came to that."""
    flush, left, struck = os.fsync, [step], list[bool]()

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            struck.append(True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    try:
        yield struck
    finally:
        os.fsync = flush


def _watch(step: int, folder: Path, end: Callable[[], None]) -> None:
    left, flush, inside = [step], os.fsync, str(folder)

    def count() -> None:
        left[0] -= 1
        if left[0] < 0:
            end()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in OPERATIONS and str(arguments[0]).startswith(inside):
            count()

    def fsync(descriptor: int) -> None:
        count()
        flush(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(hook)
