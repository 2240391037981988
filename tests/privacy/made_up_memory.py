"""The memory of a device that is not here."""

from collections.abc import Callable

import torch


class MadeUp:
    """A device whose chunks take ``fixed`` bytes and ``each`` a place."""

    def __init__(self, bytes_free: int, fixed: int, each: int) -> None:
        self._free, self._fixed, self._each = bytes_free, fixed, each
        self.places: list[int] = []

    def compute(self, places: int) -> None:
        self.places.append(places)
        if self._fixed + self._each * places > self._free:
            raise torch.OutOfMemoryError

    def free(self) -> int:
        return self._free

    @property
    def at_first(self) -> int:
        return self._free

    def peak_of(self, work: Callable[[], object]) -> int:
        work()
        return self._fixed + self._each * self.places[-1]
