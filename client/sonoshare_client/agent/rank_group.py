"""The group of processes that train together: how each of them joins it, the agent and those beside it alike.

They find each other over a file and are connected over the loopback interface. Left alone the back end binds the host's
own interface, which is the hospital's network.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from torch import distributed

LOOPBACK: Final = "lo"
"""The one interface that sums cross."""
_INTERFACE: Final = "GLOO_SOCKET_IFNAME"


@contextmanager
def joined_group(store: str, rank: int, size: int, seconds: int) -> Iterator[distributed.ProcessGroup]:
    """Be in the group for the time of the block; when the block begins, everybody is connected to everybody.

    Args:
        store: file over which the group finds itself.
        rank: number of this process; the agent's is 0.
        size: how many processes there are.
        seconds: after which an exchange that does not end is given up.

    Raises:
        RuntimeError: the others do not come.
    """
    with _over_loopback():
        distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=timedelta(seconds=seconds)
        )
    try:
        distributed.barrier()
        group = distributed.group.WORLD
        if group is None:
            raise RuntimeError("there is no group")
        yield group
    finally:
        with contextlib.suppress(RuntimeError):  # the others may be gone
            distributed.destroy_process_group()


@contextmanager
def _over_loopback() -> Iterator[None]:
    before = os.environ.get(_INTERFACE)
    os.environ[_INTERFACE] = LOOPBACK
    try:
        yield
    finally:
        if before is None:
            del os.environ[_INTERFACE]
        else:
            os.environ[_INTERFACE] = before
