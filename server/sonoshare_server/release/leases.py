"""Leases on pieces of work in a folder that several processes share, on one machine or on several.

Promises
- Of the workers that ask for a piece at one time, one gets it: a lease is a file that is linked into place whole and
  exclusively. It names its owner and when it expires, and a heartbeat puts that off while the owner lives.
- An expired lease may be taken over. Whoever does creates the piece's *next* generation, exclusively again, and no
  lease is ever removed by anybody but its owner, so two workers cannot take over the same lease.

Not promised: that nobody works on a piece beside the owner. Clocks of two machines may differ, and a process may be
stopped for longer than its lease. So the work must give the same bytes whoever does it, and be put in place whole:
then a second worker costs time and nothing else. Clocks should agree to within a fraction of a lease.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

LEASE_SECONDS: Final = 60.0
HEARTBEATS: Final = 4  # in the time of one lease


@dataclass(frozen=True)
class Lease:
    """Who works on a piece, and until when; ``expires`` is in seconds since 1970."""

    owner: str
    expires: float


class Leases:
    """One worker's view of the leases in a folder.

    Args:
        folder: shared by the workers; exists.
        owner: name of this worker, usable in a file name, no other worker's.
        seconds: how long a lease holds without a heartbeat.
        clock: seconds since 1970.
    """

    def __init__(
        self, folder: Path, owner: str, *, seconds: float = LEASE_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._owner, self._seconds, self._clock = folder, owner, seconds, clock
        self._held: dict[str, Path] = {}

    def claim(self, work: str) -> bool:
        """Ask for a piece of work; True where it is now this worker's.

        Raises:
            OSError: the folder cannot be written.
        """
        newest = max(self._folder.glob(f"{work}.*.lease"), default=None)
        if newest is not None and self._read(newest).expires > self._clock():
            return False
        generation = 0 if newest is None else int(newest.suffixes[-2][1:]) + 1
        path = self._folder / f"{work}.{generation:06d}.lease"
        mine = self._written(path)
        try:
            os.link(mine, path)
        except FileExistsError:
            return False
        finally:
            mine.unlink()
        self._held[work] = path
        return True

    @contextmanager
    def kept(self, work: str) -> Iterator[None]:
        """Keep a claimed lease alive while the block runs, then give it back."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._seconds / HEARTBEATS):
                # A beat that fails (a full disk) costs at most the lease, never the work.
                with suppress(OSError):
                    self.renew(work)

        heart = threading.Thread(target=beat, daemon=True, name=f"lease {work}")
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()
            self._held.pop(work).unlink(missing_ok=True)

    def renew(self, work: str) -> None:
        """Put off the expiry of a lease that this worker holds.

        Raises:
            OSError: it could not be written; the old expiry stands.
        """
        path = self._held[work]
        self._written(path).replace(path)

    def _written(self, path: Path) -> Path:
        """A file with a fresh lease beside ``path``, for this worker alone."""
        mine = path.with_name(f"{path.name}.{self._owner}")
        mine.write_text(json.dumps(asdict(Lease(self._owner, self._clock() + self._seconds))))
        return mine

    @staticmethod
    def _read(path: Path) -> Lease:
        """The lease in a file; one that is gone or that a power cut has emptied has expired."""
        try:
            return Lease(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return Lease("", 0.0)
