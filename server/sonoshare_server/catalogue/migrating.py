"""Versions of the catalogue's database, and how one is brought from one to another.

A version is a step in ``migrations/versions``, numbered from 0001. Alembic remembers it in the database; in SQLite it
also stands in ``PRAGMA user_version``, as it did before there was Alembic (versions 1 and 2), so that an older
SonoShare refuses a newer database instead of misreading it.

Promise: a database is of one version or of the other, whole, whenever the process is killed: all steps happen in one
transaction. Of several servers that start at once one makes the steps and the others wait. A database of a version that
this code does not know is not touched. The way back (``change_to`` an older version) keeps all that the older version
has a place for, and no more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from sonoshare_shared.errors import NewerVersionError

NEWEST: Final = 6
_FIRST_OF_ALEMBIC: Final = 3
_LOCK: Final = 0x50_4E_4F_53
"""Number of the lock that PostgreSQL gives to whoever makes the steps."""
_TABLE: Final = "alembic_version"


def bring_up(engine: sa.Engine) -> None:
    """Bring a database to the newest version.

    Raises:
        NewerVersionError: it is of a version that this code does not know.
        OperationalError: it cannot be read or written; it is as it was.
    """
    # Without a lock first: most openings have nothing to do, and must not wait for a writer.
    with engine.connect() as connection, connection.begin():
        standing = _standing(connection)
    if standing != NEWEST:
        change_to(engine, NEWEST)


def change_to(engine: sa.Engine, version: int) -> None:
    """Bring a database to a version, up or down.

    Args:
        engine: where.
        version: from 1 to ``NEWEST``.

    Raises:
        NewerVersionError: it is of a version that this code does not know.
    """
    from alembic import command  # noqa: PLC0415 - most openings have nothing to do, and it takes a while to load
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with _alone(engine) as connection:
        config.attributes["connection"] = connection
        standing = _standing(connection)
        if 0 < standing < _FIRST_OF_ALEMBIC and not sa.inspect(connection).has_table(_TABLE):
            command.stamp(config, _name(standing))
        if version > standing:
            command.upgrade(config, _name(version))
        elif version < standing:
            command.downgrade(config, _name(version))
        if connection.dialect.name == "sqlite":
            if version < _FIRST_OF_ALEMBIC:
                connection.exec_driver_sql(f"DROP TABLE {_TABLE}")
            connection.exec_driver_sql(f"PRAGMA user_version = {version}")


def _standing(connection: sa.Connection) -> int:
    """The version of a database, 0 for one that is empty."""
    inspector = sa.inspect(connection)
    said = 0
    if inspector.has_table(_TABLE):
        said = int(connection.exec_driver_sql(f"SELECT version_num FROM {_TABLE}").scalar() or 0)  # noqa: S608
    if connection.dialect.name == "sqlite":
        said = max(said, int(connection.exec_driver_sql("PRAGMA user_version").scalar_one()))
    # All had tables before versions were written down.
    standing = said or int(inspector.has_table("releases"))
    if standing > NEWEST:
        raise NewerVersionError(
            "the catalogue's database was written by a newer version of SonoShare:"
            f" version {standing}, known here {NEWEST}",
            remedy="update SonoShare",
        )
    return standing


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect().execution_options(sonoshare_writing=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        yield connection


def _name(version: int) -> str:
    return f"{version:04d}"
