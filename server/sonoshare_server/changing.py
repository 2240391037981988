"""One change of a coordinator's folder at a time: who belongs, how they are reached, its certificate, its studies.

    @one_at_a_time
    def admit(home, hospital, ...): read members.json, add one, sign the next roster, write both

Two commands that both read, and then both write, would lose one's change: two hospitals are admitted at once, and one
of them is in no roster. Such a change holds the folder's lock from its first look to its last write; it takes
milliseconds, so another one waits for it.

Promise: whoever is let in by the lock reads what the one before has written; the lock is free when its holder ends.
Not promised: that a change may call another one; each holds the lock once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.errors import FederationError
from sonoshare_shared.locks import locked

WAIT_SECONDS: Final = 30.0
H = TypeVar("H", bound=CoordinatorPaths)
P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def changing(home: CoordinatorPaths) -> Iterator[None]:
    """Change a folder alone while the block runs.

    Raises:
        FederationError: another change does not end.
    """
    busy = FederationError("another command changes this folder", remedy="try again when it has ended")
    with locked(home.change_lock_path, busy, WAIT_SECONDS):
        yield


def one_at_a_time(change: Callable[Concatenate[H, P], R]) -> Callable[Concatenate[H, P], R]:
    """A function whose first argument is the folder that it changes, run under the folder's lock."""

    @wraps(change)
    def alone(home: H, /, *arguments: P.args, **options: P.kwargs) -> R:
        with changing(home):
            return change(home, *arguments, **options)

    return alone
