"""The SQLite file of a ledger: its versions, and the triggers that make it append-only.

A reservation is on the disk when its transaction has ended: write-ahead log, synchronous=FULL. Not promised: protection
from somebody who edits the file with the triggers removed; the hash chain and the signatures show that.
"""

import sqlite3
from pathlib import Path
from typing import Final

from sonoshare_shared.database import Versions, bring_up
from sonoshare_shared.errors import LedgerError, NewerVersionError

_BUSY_SECONDS: Final = 60.0
_TRIGGERS: Final = {
    "entries_update": "BEFORE UPDATE ON entries",
    "entries_delete": "BEFORE DELETE ON entries",
    "entries_order": "BEFORE INSERT ON entries "
    "WHEN NEW.sequence <> COALESCE((SELECT MAX(sequence) FROM entries), -1) + 1",
}
_VERSIONS: Final[Versions] = (
    (
        """CREATE TABLE IF NOT EXISTS entries (
            sequence INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, body BLOB NOT NULL, signature TEXT NOT NULL
        ) STRICT""",
    ),
)


def open_ledger_file(path: Path) -> sqlite3.Connection:
    """Open the file, which is made when absent, with its triggers; in autocommit mode.

    Raises:
        LedgerError: it cannot be read or written, is no database, or is of a newer version of SonoShare.
    """
    try:
        database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise unusable(error) from error
    try:
        mode = database.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        database.execute("PRAGMA synchronous=FULL")
        database.execute("PRAGMA trusted_schema=OFF")
        bring_up(database, _VERSIONS, "the ledger")
        for name, when in _TRIGGERS.items():
            refuse = "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
            database.execute(f"CREATE TRIGGER IF NOT EXISTS {name} {when} {refuse}")
    except sqlite3.Error as error:
        database.close()
        raise unusable(error) from error
    except NewerVersionError as error:
        database.close()
        raise LedgerError(error.message, remedy=error.remedy) from error
    if mode != "wal":
        database.close()
        raise LedgerError("the ledger's file system has no write-ahead log", remedy="use a local disk")
    return database


def require_triggers(database: sqlite3.Connection) -> None:
    """Check that the file's triggers are there, and no others.

    Raises:
        LedgerError: they are not.
    """
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    if {name for (name,) in rows} != _TRIGGERS.keys():
        raise LedgerError("the ledger's triggers were changed", remedy="tell the data-protection officer")


def unusable(error: sqlite3.Error) -> LedgerError:
    """A database error in the ledger's words."""
    return LedgerError(f"the ledger could not be written or read: {error}", remedy="free the disk and look at the file")
