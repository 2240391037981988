"""Peak memory of this process and everything it has started, sampled twice a second."""

import threading
from typing import Final, Self

import psutil

SAMPLE_SECONDS: Final = 0.5
_MIB: Final = 1 << 20


class PeakMemory:
    """Samples the resident memory of a process tree while it is entered."""

    def __init__(self) -> None:
        self.mib = 0.0
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
            self.mib = max(self.mib, _tree_mib())


def _tree_mib() -> float:
    """Resident memory of the tree; pages that processes share are counted in each (an upper bound)."""
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / _MIB
