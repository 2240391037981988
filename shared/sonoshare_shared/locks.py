"""One process at a time: the operating system's lock on a file (``filelock``).

Promise: of several processes or threads that ask, one has the lock; the others are told so at once, or after the time
that they would wait. It is free as soon as its holder ends, however it ends. The file itself says nothing and stays
where it is, so that anybody can see whether its holder still lives (``is_locked``).
Not promised: that a network file system has such locks. What several machines share has leases
(``sonoshare_server.release.leases``).
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sonoshare_shared.errors import SonoShareError


@contextmanager
def locked(path: Path, otherwise: SonoShareError, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: the lock's file; its folder exists.
        otherwise: raised where another holds it.
        wait_seconds: for so long its holder is waited for.

    Raises:
        SonoShareError: ``otherwise``.
    """
    lock = FileLock(path, mode=0o600, fallback_to_soft=False)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout:
        raise otherwise from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether somebody holds a lock now. Looking takes no lock that another who looks would see."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)  # and with it the shared lock: whoever asks in that moment must be ready to wait for it
    return False
