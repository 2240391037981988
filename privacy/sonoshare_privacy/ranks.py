"""Several processes that train one hospital's patients together: patients are shared out, noise is added once.

The first rank samples, charges and noises; the others compute clipped integer sums of the patients they are told.
Integer sums add exactly, so the result does not depend on the number of ranks. Which rank computes a patient depends on
who else was sampled; so all ranks must compute the same bits. `require_same` finds out whether they do: before a
training on public rows, for its own weights and for made-up ones (a rank with another processor or library is refused),
and after every step for the weights themselves.

All ranks belong to the hospital: what passes between them is not private, and nobody else may listen or join
(``sonoshare_client.agent.rank_processes``). Sums travel over the processor's memory, where noise is drawn, whatever
they were computed on; a rank that is gone or hangs is an error on every other one, never a smaller sum.

Not promised: that the other ranks notice by themselves when one raises between two exchanges; whoever started them ends
them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final

import torch
from torch import distributed

from sonoshare_shared.errors import FederationError, ModelError

_DIGEST_BYTES: Final = 32


def bits_of(parameters: Mapping[str, torch.nn.Parameter]) -> torch.Tensor:
    """A digest of every bit of some parameters, int64 [4]."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for parameter in parameters.values():
        digest.update(parameter.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.int64)


@contextmanager
def _exchange() -> Iterator[None]:
    """Say in our own words what back ends say by ``RuntimeError``: a rank is gone, hangs, or is at another exchange."""
    try:
        yield
    except RuntimeError as error:
        raise FederationError(
            "a process of this training is gone, hangs, or asks for something else than the others",
            remedy="ask again: a training starts its processes anew; the agent's log says more",
        ) from error


class Ranks:
    """The processes of a group, or this one alone.

    Args:
        group: a torch.distributed group whose back end moves CPU tensors (gloo); None for one process.

    Each exchange raises `FederationError` where another rank does not take part in it.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank = 0 if group is None else distributed.get_rank(group)
        self.size = 1 if group is None else distributed.get_world_size(group)

    @property
    def first(self) -> bool:
        """Whether this is the rank that samples, charges and noises."""
        return self.rank == 0

    def wait_for_first(self) -> None:
        """Return once the first rank has come here."""
        self.indices(torch.zeros(1, dtype=torch.int64))

    def largest(self, mine: int) -> int:
        """The largest of all ranks' numbers, on every rank."""
        value = torch.tensor([mine])
        if self._group is not None:
            with _exchange():
                distributed.all_reduce(value, distributed.ReduceOp.MAX, group=self._group)
        return int(value)

    def require_same(self, mine: torch.Tensor) -> None:
        """Check that every rank holds the same int64 vector.

        Raises:
            ModelError: on every rank, if one differs.
        """
        if self._group is None:
            return
        first = self.from_first(mine.clone())
        if self.largest(int(not torch.equal(first, mine))):
            raise ModelError(
                "the processes of this training do not compute the same numbers",
                remedy="use the same processor, libraries and threads for all of them",
            )

    def indices(self, mine: torch.Tensor | None) -> torch.Tensor:
        """The first rank's int64 vector, on every rank."""
        if self._group is None:
            if mine is None:
                raise ValueError("one process must give its own indices")
            return mine
        length = torch.tensor([0 if mine is None else len(mine)])
        with _exchange():
            distributed.broadcast(length, 0, group=self._group)
            values = mine if self.first and mine is not None else torch.empty(int(length), dtype=torch.int64)
            distributed.broadcast(values, 0, group=self._group)
        return values

    def add_up(self, total: torch.Tensor) -> torch.Tensor:
        """Sum of all ranks' int64 tensors: one process's own as it is, that of several on the CPU."""
        if self._group is None:
            return total
        total = total.cpu()
        with _exchange():
            distributed.all_reduce(total, group=self._group)
        return total

    def from_first(self, values: torch.Tensor) -> torch.Tensor:
        """The first rank's values, on every rank; written in place."""
        if self._group is not None:
            with _exchange():
                distributed.broadcast(values, 0, group=self._group)
        return values
