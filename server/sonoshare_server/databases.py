"""Connections to a database of the server's: SQLite in a file, or PostgreSQL, by SQLAlchemy.

    sqlite:////srv/fed/catalogue.db              postgresql://fed@db.example.org/catalogue

A change is on the disk when ``writing`` ends, or it was never made. Several processes use one database at once: of two
that write the same thing one waits.

SQLite runs with a write-ahead log and full synchronisation; a writing transaction takes its lock at the beginning, so
that it cannot fail in the middle.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL

from sonoshare_shared.errors import InputError, StorageError

_BUSY_SECONDS: Final = 10
_POOL: Final = 10
"""Connections that a process keeps open, and as many again for a moment."""
_OF_THE_CALLER: Final = (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.DataError, sa.exc.NotSupportedError)
"""What a statement did wrong, while the database is well."""
_DRIVERS: Final = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


@contextmanager
def answering(database: str) -> Iterator[None]:
    """What a block asks of a database that is not there, is damaged or does not answer in time is said in one line.

    Args:
        database: which one, in words.

    Raises:
        StorageError: it is not there, is damaged, or does not answer.
    """
    try:
        yield
    except (sa.exc.DatabaseError, sa.exc.TimeoutError, sqlite3.DatabaseError) as error:
        if isinstance(error, _OF_THE_CALLER):
            raise
        raise StorageError(
            f"{database} does not answer",
            remedy="see that it runs, and DATABASE_URL; where it is a file, put back its newest copy",
        ) from error


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that writes."""
    with engine.connect().execution_options(sonoshare_writing=True) as connection, connection.begin():
        yield connection


def engine_of(place: Path | str, variable: str = "DATABASE_URL") -> sa.Engine:
    """Connections to a database, none of them open yet.

    Args:
        place: the file of a SQLite database (its folder is made when absent), or a URL.
        variable: of the environment, where the URL stands; for the message.

    Raises:
        InputError: the URL names no database that is known here.
    """
    url = _url(place, variable)
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(
            url,
            pool_size=_POOL,
            max_overflow=_POOL,
            pool_pre_ping=True,
            connect_args={"connect_timeout": _BUSY_SECONDS},
        )
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, pool_size=_POOL, max_overflow=_POOL, connect_args={"timeout": _BUSY_SECONDS})
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _url(place: Path | str, variable: str) -> URL:
    if isinstance(place, Path):
        return URL.create("sqlite+pysqlite", database=str(place.absolute()))
    try:
        url = sa.make_url(place)
    except sa.exc.ArgumentError:
        url = None
    if url is None or url.drivername not in _DRIVERS or (url.drivername == "sqlite" and not url.database):
        raise InputError(
            f"{variable} names no database that is known here",
            remedy="write sqlite:////folder/catalogue.db or postgresql://user:password@host/name",
        )
    return url.set(drivername=_DRIVERS[url.drivername])


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # Transactions begin when SQLAlchemy says so, and not at the first statement that writes.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("sonoshare_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
