"""Leases in a table of a database, for workers that share nothing else (the promises of ``leases``).

A lease is a row: whose it is, how often it has beaten, and for how many seconds it holds without a beat. Who waits
remembers, by its own clock, since when the beats have stood still, and then takes the row over by a change that counts
only if owner and beat are still what it saw. So clocks need not agree, and of several that wait one gets it.

The lease of a worker that was killed is free after its time, on the same machine, too.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final

import sqlalchemy as sa

from sonoshare_server.release.leases import HEARTBEATS
from sonoshare_shared.errors import FederationError

Writing = Callable[[], AbstractContextManager[sa.Connection]]
_Seen = tuple[str, int]
_JOIN_SECONDS: Final = 30.0


class DatabaseLeases:
    """One worker's view of the leases of a drawing.

    Args:
        writing: opens a transaction; FederationError where the database does not answer.
        table: of leases: drawing, work, owner, beat, seconds.
        drawing: whose leases.
        owner: name of this worker, no other's.
        seconds: how long its leases hold without a heartbeat.
    """

    def __init__(self, writing: Writing, table: sa.Table, drawing: str, *, owner: str, seconds: float) -> None:
        self._writing, self._table, self._drawing = writing, table, drawing
        self._owner, self._seconds = owner, seconds
        # Since when each lease of another has looked the same, by this worker's clock.
        self._seen: dict[str, tuple[_Seen, float]] = {}

    def claim(self, work: str) -> bool:
        """Ask for a piece of work.

        Raises:
            FederationError: the database does not answer.
        """
        with self._writing() as connection:
            row = connection.execute(sa.select(self._table).where(self._is(work))).mappings().one_or_none()
            if row is None:
                return self._inserted(connection, work)
            seen = (str(row["owner"]), int(row["beat"]))
            if seen[0] == self._owner or not self._silent(work, seen, float(row["seconds"])):
                return False
            return self._taken_over(connection, work, seen)

    @contextmanager
    def kept(self, work: str) -> Iterator[None]:
        """Beat while the block runs, and give a claimed lease back when it ends.

        A lease that cannot be given back, as the database does not answer, is free after its time.
        """
        ending = threading.Event()
        beating = threading.Thread(target=self._beat, args=(work, ending), name=f"lease of {work}", daemon=True)
        beating.start()
        try:
            yield
        finally:
            ending.set()
            beating.join(_JOIN_SECONDS)
            with suppress(FederationError), self._writing() as connection:
                connection.execute(sa.delete(self._table).where(self._is(work), self._table.c.owner == self._owner))

    def _inserted(self, connection: sa.Connection, work: str) -> bool:
        row = {"drawing": self._drawing, "work": work, "owner": self._owner, "beat": 0, "seconds": self._seconds}
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(self._table).values(**row))
        except sa.exc.IntegrityError:
            return False  # another was faster, or the drawing is over
        self._seen.pop(work, None)
        return True

    def _silent(self, work: str, seen: _Seen, seconds: float) -> bool:
        """Whether a lease has looked like this for as long as it holds."""
        known = self._seen.get(work)
        if known is None or known[0] != seen:
            self._seen[work] = (seen, time.monotonic())
            return False
        return time.monotonic() - known[1] > seconds

    def _taken_over(self, connection: sa.Connection, work: str, seen: _Seen) -> bool:
        owner, beat = seen
        same = sa.and_(self._is(work), self._table.c.owner == owner, self._table.c.beat == beat)
        mine = {"owner": self._owner, "beat": 0, "seconds": self._seconds}
        changed = connection.execute(sa.update(self._table).where(same).values(**mine))
        self._seen.pop(work, None)
        return changed.rowcount == 1

    def _beat(self, work: str, ending: threading.Event) -> None:
        mine = sa.and_(self._is(work), self._table.c.owner == self._owner)
        while not ending.wait(self._seconds / HEARTBEATS):
            # A beat that is lost is one of four: the lease outlives a short silence of the database.
            with suppress(FederationError), self._writing() as connection:
                connection.execute(sa.update(self._table).where(mine).values(beat=self._table.c.beat + 1))

    def _is(self, work: str) -> sa.ColumnElement[bool]:
        return sa.and_(self._table.c.drawing == self._drawing, self._table.c.work == work)
