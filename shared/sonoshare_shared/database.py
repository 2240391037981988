"""Versions of SQLite databases, and how an older one is brought up to date.

A database says its version in ``PRAGMA user_version``; one that says nothing (0) and has tables is of version 1, as all
were before versions were written down. Promise: `bring_up` leaves the newest version or, if it is killed at any moment,
the one before, whole: everything happens in one transaction. A database of a version that this code does not know is
not touched. Not promised: a way back.
"""

import sqlite3

from sonoshare_shared.errors import NewerVersionError

Versions = tuple[tuple[str, ...], ...]
"""For each version, from 1, the statements that make it of the one before; those of version 1 make it of nothing, and
change nothing where it is there already."""


def bring_up(database: sqlite3.Connection, versions: Versions, what: str) -> None:
    """Bring an open database to the newest version.

    Args:
        database: connection in autocommit mode (``isolation_level=None``), in no transaction.
        versions: all versions there are.
        what: the database in words, for the message.

    Raises:
        NewerVersionError: it is of a version that this code does not know.
        sqlite3.Error: it cannot be read or written; it is as it was.
    """
    # Without a lock first: most openings have nothing to do, and must not wait for a writer.
    if _known(database, versions, what) == len(versions):
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        for statements in versions[_known(database, versions, what) :]:
            for statement in statements:
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(versions)}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # a full disk has rolled it back by itself
            database.execute("ROLLBACK")
        raise


def _known(database: sqlite3.Connection, versions: Versions, what: str) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > len(versions):
        raise NewerVersionError(
            f"{what} was written by a newer version of SonoShare: version {version}, known here {len(versions)}",
            remedy="update SonoShare",
        )
    return int(version)
