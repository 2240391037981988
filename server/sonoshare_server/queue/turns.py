"""Whose turn it is: several studies share one federation, and ask its hospitals one exchange at a time.

    with turn(home, ticket, look):
        ...one round, one ballot, one audit or one signing...

A turn is one exchange, not a whole action: between two rounds of a study another study has its turn. Two exchanges at
once would gain nothing, because a hospital answers one request at a time and charges nothing before the others have
seen its last charges (docs/decisions/0098-turns-of-one-round.md).

Who wants a turn leaves a ticket: a file, and a lock beside it that its process holds, so that a killed process waits
for nothing. Of all tickets the one of the highest priority goes first, and of those the oldest. Whoever has had a turn
draws a new ticket, so studies of one priority alternate.

    turns/<ticket>.json  {"study": ..., "what": ..., "run": ..., "priority": 0, "drawn": ..., "holding": false}
    turns/<ticket>.lock  .lock

Promise: one process at a time has the turn; a killed one holds nothing.
Not promised: that a study of low priority ever has its turn while others of higher priority have rounds left.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.errors import FederationError, IntegrityError
from sonoshare_shared.locks import is_locked, locked
from sonoshare_shared.state import read_state, write_state

POLL_SECONDS: Final = 0.2


class _HeldError(FederationError):
    """Somebody else has the turn."""


@dataclass(frozen=True)
class Ticket:
    """Somebody who wants a turn.

    Attributes:
        study: whose.
        what: the action in words, as ``train`` or ``audit r1``.
        run: the action's id.
        priority: the highest goes first.
        drawn: when; of one priority the oldest goes first.
        holding: whether it has the turn.
    """

    study: str
    what: str
    run: str
    priority: int = 0
    drawn: datetime = field(default_factory=lambda: datetime.now(UTC))
    holding: bool = False

    @property
    def rank(self) -> tuple[bool, int, datetime, str]:
        """Sorts tickets: who has the turn, then by priority, then by age."""
        return (not self.holding, -self.priority, self.drawn, self.run)


Look = Callable[[list[Ticket]], None]


@contextmanager
def turn(home: CoordinatorPaths, ticket: Ticket, look: Look) -> Iterator[None]:
    """Wait for a turn, and hold it while the block runs.

    Args:
        home: the coordinator's folder.
        ticket: who wants it.
        look: called at every look with the tickets that go first, and with none when the turn is there; what it
            raises ends the wait.
    """
    with _waiting(home, ticket) as paper:
        while True:
            look(ahead := [other for other in tickets(home) if other.rank < ticket.rank])
            try:
                if not ahead:
                    with locked(home.lock_path, _HeldError("another action has its turn", remedy="wait for it")):
                        write_state(paper, replace(ticket, holding=True))
                        yield
                    return
            except _HeldError:
                pass  # by a process that has put its ticket away, and is about to let go
            time.sleep(POLL_SECONDS)


def tickets(home: CoordinatorPaths) -> list[Ticket]:
    """Who has the turn and who waits for it, in that order."""
    found = []
    for paper in home.turns_path.glob("*.json"):
        try:
            ticket = read_state(paper, Ticket, remedy="start the action again")
        except (FileNotFoundError, IntegrityError):
            continue  # its turn is over
        if is_locked(_lock(paper)):
            found.append(ticket)
        else:
            paper.unlink(missing_ok=True)  # of a process that was killed
            _lock(paper).unlink(missing_ok=True)
    return sorted(found, key=lambda ticket: ticket.rank)


@contextmanager
def _waiting(home: CoordinatorPaths, ticket: Ticket) -> Iterator[Path]:
    """A ticket while it is good. Its name is used once: whoever finds it without its lock can put it away."""
    home.turns_path.mkdir(exist_ok=True)
    paper = home.turns_path / f"{secrets.token_hex(8)}.json"
    with locked(_lock(paper), FederationError("two tickets of one name", remedy="start the action again")):
        write_state(paper, ticket)
        try:
            yield paper
        finally:
            paper.unlink(missing_ok=True)
            _lock(paper).unlink(missing_ok=True)


def _lock(paper: Path) -> Path:
    return paper.with_suffix(".lock")
