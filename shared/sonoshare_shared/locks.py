"""One process at a time: the operating system's lock on a file (``filelock``).

Promise: of several processes or threads that ask, one has the lock; the others are told so at once. It is free as soon
as its holder ends, however it ends. The file itself says nothing and stays where it is.
Not promised: that a network file system has such locks. What several machines share has leases
(``sonoshare_server.release.leases``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sonoshare_shared.errors import SonoShareError


@contextmanager
def locked(path: Path, otherwise: SonoShareError) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: the lock's file; its folder exists.
        otherwise: raised where another holds it.

    Raises:
        SonoShareError: ``otherwise``.
    """
    lock = FileLock(path, mode=0o600, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise otherwise from None
    try:
        yield
    finally:
        lock.release()
