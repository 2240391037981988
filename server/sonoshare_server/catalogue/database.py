"""The catalogue's database: SQLite in a file, or PostgreSQL, by SQLAlchemy.

    sqlite:////srv/fed/catalogue.db              postgresql://fed@db.example.org/catalogue

A change is on the disk when ``writing`` ends, or it was never made. Several processes use one database at once: of two
that write the same thing one waits. Nothing that is read here is remembered here; whoever keeps what he parsed asks
``number`` whether it still stands.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from sonoshare_server.catalogue.migrating import bring_up
from sonoshare_server.catalogue.schema import CHANGES
from sonoshare_server.databases import answering, engine_of, writing


class Database:
    """An open catalogue database, usable from several threads.

    Args:
        place: the file of a SQLite database (it and its folder are made when absent), or a URL.

    Raises:
        InputError: the URL names no database that the catalogue knows.
        StorageError: it cannot be reached, or is damaged.
        NewerVersionError: it was written by a newer version of SonoShare.
    """

    def __init__(self, place: Path | str) -> None:
        self._engine = engine_of(place)
        shown = self._engine.url.render_as_string(hide_password=True)
        try:
            with answering(f"the catalogue's database ({shown})"):
                bring_up(self._engine)
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
