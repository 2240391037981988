"""Leases on pieces of work that several processes share: one owner at a time, taken over when it falls silent.

Promises
- Of the workers that ask for a piece at one time, one gets it. It holds it for as long as it lives: a heartbeat runs
  while the piece is held.
- The lease of a worker that was killed is free at once on the same machine, and after ``seconds`` on another, as is
  that of a worker that hangs. Who waits does so by its own clock, from what it sees of the other's heartbeat: clocks
  need not agree.

Not promised: that nobody works on a piece beside the owner. A process may be stopped for longer than its lease and then
go on. So the work must give the same bytes whoever does it, and be put in place whole: then a second worker costs time
and nothing else.

``FileLeases`` are files in a folder that the workers share, on one machine or on several (``filelock``'s leases).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from sonoshare_shared.errors import InputError

LEASE_SECONDS: Final = 60.0
HEARTBEATS: Final = 4  # in the time of one lease


class Leases(Protocol):
    """One worker's view of the leases."""

    def claim(self, work: str) -> bool:
        """Ask for a piece of work; True where it is now this worker's, False where it is anybody's already."""

    @contextmanager
    def kept(self, work: str) -> Iterator[None]:
        """Give a claimed lease back when the block ends."""


class FileLeases:
    """Leases in a folder.

    Args:
        folder: shared by the workers; exists.
        seconds: how long a lease holds without a heartbeat; the same for all workers.
    """

    def __init__(self, folder: Path, *, seconds: float = LEASE_SECONDS) -> None:
        self._folder, self._seconds = folder, seconds
        # Kept from one question to the next: a lease remembers since when the other's heartbeat has stood still.
        self._leases: dict[str, SoftFileLease] = {}

    def claim(self, work: str) -> bool:
        """Ask for a piece of work.

        Raises:
            InputError: another worker's leases hold for another time.
            OSError: the folder cannot be written.
        """
        lease = self._leases.setdefault(work, self._new(work))
        if lease.is_locked:
            return False
        self._clear_emptied(work)
        try:
            lease.acquire(timeout=0)
        except Timeout:
            return False
        except LeaseSettingsMismatch as error:
            raise InputError(
                "another worker draws with other --lease-seconds", remedy="give all workers of a drawing the same"
            ) from error
        return True

    @contextmanager
    def kept(self, work: str) -> Iterator[None]:
        """Give a claimed lease back when the block ends."""
        try:
            yield
        finally:
            self._leases.pop(work).release()

    def _clear_emptied(self, work: str) -> None:
        """Remove a lease that a power cut has emptied: `filelock` takes it for one whose owner cannot be told."""
        path = self._path(work)
        with suppress(FileNotFoundError):
            found = path.stat()
            if found.st_size == 0 and time.time() - found.st_mtime > self._seconds:
                path.unlink()

    def _path(self, work: str) -> Path:
        return self._folder / f"{work}.lease"

    def _new(self, work: str) -> SoftFileLease:
        return SoftFileLease(
            self._path(work),
            lease_duration=self._seconds,
            heartbeat_interval=self._seconds / HEARTBEATS,
            thread_local=False,
        )
