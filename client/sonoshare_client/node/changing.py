"""One command at a time changes a node's keys, or the roster that it has pinned.

Such a change reads what is there, and writes what follows from it: two at once could pin an older roster over a newer
one, or leave the halves of two different keys side by side.

The next identity key takes the present one's place under a lock of its own (``taking``), since whoever opens the ledger
may have to end such a change, also inside of another one. Promise: nothing else is waited for while it is held.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sonoshare_client.node.paths import StatePaths
from sonoshare_shared.errors import FederationError
from sonoshare_shared.locks import locked

WAIT_SECONDS: Final = 10.0


@contextmanager
def changing(state: StatePaths) -> Iterator[None]:
    """Change them alone while the block runs; the state folder exists.

    Raises:
        FederationError: another change does not end.
    """
    busy = FederationError("another command changes this node's keys or its roster", remedy="try again")
    with locked(state.change_lock_path, busy, WAIT_SECONDS):
        yield


@contextmanager
def taking(state: StatePaths) -> Iterator[None]:
    """Look at the two identity keys, and put the next one in the other's place, alone while the block runs.

    Raises:
        FederationError: another process does not end doing so.
    """
    busy = FederationError("another process changes this node's identity key", remedy="try again")
    with locked(state.identity_lock_path, busy, WAIT_SECONDS):
        yield
