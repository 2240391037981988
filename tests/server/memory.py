"""The server's storage in memory: behind the real protocols, and held to the same behaviour as files and database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class MemoryLeases:
    """One worker's view of a table of leases; it beats for as long as ``silent_since`` is None.

    Args:
        table: who holds what; shared by the workers.
        clock: seconds.
        seconds: how long a lease holds without a heartbeat.
    """

    table: dict[str, "MemoryLeases"] = field(default_factory=dict)
    clock: Callable[[], float] = lambda: 0.0
    seconds: float = 60.0
    silent_since: float | None = None

    def claim(self, work: str) -> bool:
        holder = self.table.get(work)
        if holder is not None and not holder.lost:
            return False
        self.table[work] = self
        return True

    @property
    def lost(self) -> bool:
        """Whether others take this worker for dead."""
        return self.silent_since is not None and self.clock() - self.silent_since > self.seconds

    @contextmanager
    def kept(self, work: str) -> Iterator[None]:
        try:
            yield
        finally:
            if self.table.get(work) is self:
                del self.table[work]
