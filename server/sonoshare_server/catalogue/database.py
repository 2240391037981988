"""The catalogue's database: SQLite in a file, or PostgreSQL, by SQLAlchemy.

    sqlite:////srv/fed/catalogue.db              postgresql://fed@db.example.org/catalogue

A change is on the disk when ``writing`` ends, or it was never made. Several processes use one database at once: of two
that write the same thing one waits. Nothing that is read here is remembered here; whoever keeps what he parsed asks
``number`` whether it still stands.

SQLite runs with a write-ahead log and full synchronisation; a writing transaction takes its lock at the beginning, so
that it cannot fail in the middle.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL

from sonoshare_server.catalogue.migrating import bring_up
from sonoshare_server.catalogue.schema import CHANGES
from sonoshare_shared.errors import FederationError, InputError

_BUSY_SECONDS: Final = 10
_POOL: Final = 10
"""Connections that a process keeps open, and as many again for a moment."""
_DRIVERS: Final = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


class Database:
    """An open catalogue database, usable from several threads.

    Args:
        place: the file of a SQLite database (it and its folder are made when absent), or a URL.

    Raises:
        InputError: the URL names no database that the catalogue knows.
        FederationError: it cannot be reached.
        NewerVersionError: it was written by a newer version of SonoShare.
    """

    def __init__(self, place: Path | str) -> None:
        self._engine = engine_of(place)
        try:
            bring_up(self._engine)
        except sa.exc.OperationalError as error:
            self.close()
            raise FederationError(
                f"the catalogue's database cannot be opened ({self._engine.url.render_as_string(hide_password=True)})",
                remedy="see that it runs, and that DATABASE_URL has its right name and password",
            ) from error
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that reads."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes: committed when the block ends, undone when it raises."""
        with writing(self._engine) as connection:
            yield connection

    def number(self, what: str) -> int:
        """How often something was changed, by this process or another."""
        with self.reading() as connection:
            found = connection.execute(sa.select(CHANGES.c.number).where(CHANGES.c.what == what)).scalar_one_or_none()
        return 0 if found is None else int(found)

    def close(self) -> None:
        """Close all connections that nobody uses."""
        self._engine.dispose()


def change(connection: sa.Connection, what: str) -> None:
    """Count a change, first in its transaction: others that change the same wait here until it is over."""
    connection.execute(sa.update(CHANGES).where(CHANGES.c.what == what).values(number=CHANGES.c.number + 1))


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that writes."""
    with engine.connect().execution_options(sonoshare_writing=True) as connection, connection.begin():
        yield connection


def engine_of(place: Path | str) -> sa.Engine:
    """Connections to a database, none of them open yet.

    Raises:
        InputError: the URL names no database that the catalogue knows.
    """
    url = _url(place)
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


def _url(place: Path | str) -> URL:
    if isinstance(place, Path):
        return URL.create("sqlite+pysqlite", database=str(place.absolute()))
    try:
        url = sa.make_url(place)
    except sa.exc.ArgumentError:
        url = None
    if url is None or url.drivername not in _DRIVERS or (url.drivername == "sqlite" and not url.database):
        raise InputError(
            "DATABASE_URL names no database that the catalogue knows",
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
