"""How many rows a machine computes at once: a public property of the machine, one number for a whole training.

On a CPU it is a constant (`CPU_ROOM`): more rows are no quicker there, and activations fill the memory. On a GPU it
follows from memory: chunks of *public* rows of two sizes are computed before anything is charged, what one more place
takes is the difference of their peaks, and half of what was free *at first* is given out: when the process first looked
(an agent does when it is opened), before any patient was in it. What is free later is not asked: what a training leaves
on a card, in pieces that the next model then lies in, follows from how many patients were there. So whoever sees how
many rows are computed at once learns of the machine alone. Where the card has been filled by others since, the check on
public rows fails before anything is charged. Processes that train together take the smallest of their numbers
(`sonoshare_privacy.ranks`).

Not seen: a GPU. `CudaMemory` is what torch documents; the arithmetic around it is tested with a memory that is made up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, Protocol

import torch

_SHARE: Final = 0.5  # of free memory; fragments, libraries' work space and other programs have the rest
_FEW: Final = 2  # places of the smaller trial chunk; the larger has twice as many


@dataclass(frozen=True)
class Room:
    """Public bounds on a chunk.

    Attributes:
        rows_at_once: most rows of one forward pass.
        gradient_bytes: most bytes of per-patient gradients.
    """

    rows_at_once: int
    gradient_bytes: int

    def most_places(self, draws: int, row_bytes: int) -> int:
        """Places that fit, for K draws and the bytes of one patient's gradient; 0 where not even one does."""
        return min(self.gradient_bytes // max(1, row_bytes), self.rows_at_once // draws)


CPU_ROOM: Final = Room(rows_at_once=32, gradient_bytes=96 << 20)


class Memory(Protocol):
    """A device's memory."""

    @property
    def at_first(self) -> int:
        """Bytes that could be taken when this process first looked."""

    def free(self) -> int:
        """Bytes that can be taken now; may follow from patients, and must decide no shape."""

    def peak_of(self, work: Callable[[], object]) -> int:
        """Do something; the most bytes that it held at once beside what was held before."""


class CudaMemory:
    """Of one GPU, as torch and the driver count it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._at_first = self.free()

    @property
    def at_first(self) -> int:
        """Bytes that could be taken when this was made."""
        return self._at_first

    def free(self) -> int:
        """Bytes that can be taken now."""
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self._device)[0]

    def peak_of(self, work: Callable[[], object]) -> int:
        """Do something; the most bytes that its tensors held at once."""
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - before


@lru_cache
def memory_of(device: torch.device) -> Memory | None:
    """What a device's chunks are fitted to, one for a process's life; None where they are bounded by `CPU_ROOM`."""
    return None if device.type == "cpu" else CudaMemory(device)


def most_places(chunk: Callable[[int], object], memory: Memory) -> int:
    """Places that a memory has room for, at least 1.

    Args:
        chunk: computes a chunk of so many places on public rows.
        memory: of the device.
    """
    try:
        few, more = (memory.peak_of(partial(chunk, places)) for places in (_FEW, 2 * _FEW))
    except torch.OutOfMemoryError:
        return 1
    each = max(1, (more - few) // _FEW)
    beside = max(0, few - _FEW * each)
    return max(1, int((memory.at_first * _SHARE - beside) // each))
