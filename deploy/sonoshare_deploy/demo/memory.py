"""Peak memory of this process and everything it has started, sampled twice a second.

Processes share pages (torch alone maps hundreds of megabytes into each), so the sum of resident sizes counts them many
times. What the machine must have is the sum of *proportional* sizes, in which a page shared by n processes counts one
nth in each. It costs more to read, so it is read whenever the sum of resident sizes reaches a new high.
"""

import threading
from typing import Final, Self

import psutil

SAMPLE_SECONDS: Final = 0.5
_MIB: Final = 1 << 20
_NEW_HIGH: Final = 1.01  # of the highest so far: small steps are not worth a reading


class PeakMemory:
    """Samples the memory of a process tree while it is entered.

    Attributes:
        mib: highest sum of proportional sizes (of resident ones where the system knows no others).
        resident_mib: highest sum of resident sizes, an upper bound.
    """

    def __init__(self) -> None:
        self.mib = 0.0
        self.resident_mib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True, name="peak-memory")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            resident = _tree_mib(proportional=False)
            if resident > _NEW_HIGH * self.resident_mib:
                self.resident_mib = resident
                self.mib = max(self.mib, _tree_mib(proportional=True))


def _tree_mib(*, proportional: bool) -> float:
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            total += _size(process, proportional=proportional)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / _MIB


def _size(process: psutil.Process, *, proportional: bool) -> int:
    if proportional:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    return int(process.memory_info().rss)
