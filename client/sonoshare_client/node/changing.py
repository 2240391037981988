"""One command at a time changes a node's keys, or the roster that it has pinned.

Such a change reads what is there, and writes what follows from it: two at once could pin an older roster over a newer
one, or leave the halves of two different keys side by side.
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
