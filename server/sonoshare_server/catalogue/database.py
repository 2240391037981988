"""The catalogue's SQLite database: one connection, WAL, full synchronisation, one writer at a time.

A change is on the disk when the call returns. ``version`` changes whenever this or another process has written, so
that readers can keep what they have parsed.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sonoshare_shared.database import Versions, bring_up

_VERSIONS: Final[Versions] = (
    (
        """CREATE TABLE IF NOT EXISTS releases (
            release TEXT PRIMARY KEY,
            sequence INTEGER NOT NULL,
            manifest_digest TEXT NOT NULL,
            bundle TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('published', 'unpublished', 'revoked')),
            reason TEXT NOT NULL DEFAULT '',
            published TEXT NOT NULL,
            changed TEXT NOT NULL,
            summary TEXT NOT NULL
        ) STRICT""",
        """CREATE TABLE IF NOT EXISTS tokens (
            digest TEXT PRIMARY KEY,
            release TEXT NOT NULL,
            name TEXT NOT NULL,
            email TEXT NOT NULL,
            purpose TEXT NOT NULL,
            agreement TEXT NOT NULL,
            granted TEXT NOT NULL,
            expires TEXT NOT NULL,
            revoked TEXT
        ) STRICT""",
    ),
    # A release below the catalogue's folder is remembered from there, so that the folder can be renamed. Version 1
    # remembered where the coordinator's folder lay when the release was published.
    ("UPDATE releases SET bundle = 'releases/' || release WHERE bundle LIKE '%/releases/' || release",),
)
_BUSY_SECONDS: Final = 10.0


class Database:
    """An open catalogue database, usable from several threads.

    Args:
        path: the file; it and its folder are made when absent.

    Raises:
        NewerVersionError: it was written by a newer version of SonoShare.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._writes = 0
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        try:
            bring_up(self._connection, _VERSIONS, "the catalogue's database")
        except BaseException:
            self._connection.close()
            raise

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed when the block ends, undone when it raises."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            self._writes += 1

    @property
    def version(self) -> tuple[int, int]:
        """Changes with every write, of this process or another."""
        with self._lock:
            (seen,) = self._connection.execute("PRAGMA data_version").fetchone()
            return int(seen), self._writes

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
