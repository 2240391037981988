"""Databases have versions: an old one is brought up whole or not at all, a newer one is left alone."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sonoshare_shared.database import bring_up
from sonoshare_shared.errors import NewerVersionError

ONE = ("CREATE TABLE IF NOT EXISTS thing (name TEXT) STRICT",)
TWO = ("ALTER TABLE thing ADD COLUMN size INTEGER", "UPDATE thing SET size = length(name)")
THREE = ("CREATE INDEX by_size ON thing (size)",)


def opened(path: Path) -> closing[Any]:
    return closing(sqlite3.connect(path, isolation_level=None))


def state(path: Path) -> tuple[Any, list[tuple[Any, ...]]]:
    with opened(path) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        return version, [tuple(row) for row in database.execute("SELECT * FROM thing")]


@pytest.fixture
def unversioned(tmp_path: Path) -> Path:
    """As databases were before versions were written down."""
    path = tmp_path / "old.db"
    with opened(path) as database:
        database.execute(ONE[0])
        database.execute("INSERT INTO thing VALUES ('abc')")
    return path


def test_a_fresh_database_is_of_the_newest_version(tmp_path: Path) -> None:
    with opened(tmp_path / "new.db") as database:
        bring_up(database, (ONE, TWO, THREE), "it")
    assert state(tmp_path / "new.db") == (3, [])


def test_an_unversioned_database_is_the_first_version(unversioned: Path) -> None:
    with opened(unversioned) as database:
        bring_up(database, (ONE,), "it")
    assert state(unversioned) == (1, [("abc",)])


@pytest.mark.parametrize("known", [1, 2])
def test_an_old_database_goes_through_every_version_between(unversioned: Path, known: int) -> None:
    versions = (ONE, TWO, THREE)
    with opened(unversioned) as database:
        bring_up(database, versions[:known], "it")
        bring_up(database, versions, "it")
        bring_up(database, versions, "it")
    assert state(unversioned) == (3, [("abc", 3)])


def test_a_newer_database_is_refused_in_one_line_and_not_touched(unversioned: Path) -> None:
    with opened(unversioned) as database:
        database.execute("PRAGMA user_version = 4")
    before = unversioned.read_bytes()
    with opened(unversioned) as database, pytest.raises(NewerVersionError) as found:
        bring_up(database, (ONE, TWO), "the list of things")
    assert str(found.value) == (
        "the list of things was written by a newer version of SonoShare: version 4, known here 2 (update SonoShare)"
    )
    assert unversioned.read_bytes() == before


def test_a_step_that_fails_leaves_the_version_before(unversioned: Path) -> None:
    broken = (*TWO, "CREATE TABLE thing (x)")
    with opened(unversioned) as database, pytest.raises(sqlite3.OperationalError):
        bring_up(database, (ONE, broken), "it")
    assert state(unversioned) == (0, [("abc",)])
    with opened(unversioned) as database:
        bring_up(database, (ONE, TWO), "it")
    assert state(unversioned) == (2, [("abc", 3)])


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_killed_in_the_middle_it_is_brought_up_by_the_next_opening(unversioned: Path, journal: str) -> None:
    with opened(unversioned) as database:
        database.execute(f"PRAGMA journal_mode = {journal}")
    child = os.fork()
    if child == 0:
        database = sqlite3.connect(unversioned, isolation_level=None)
        database.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
        bring_up(database, (ONE, (*TWO, "SELECT die()")), "it")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert state(unversioned) == (0, [("abc",)])
    with opened(unversioned) as database:
        bring_up(database, (ONE, TWO), "it")
    assert state(unversioned) == (2, [("abc", 3)])


def test_an_opening_that_has_nothing_to_do_does_not_wait_for_a_writer(unversioned: Path) -> None:
    with opened(unversioned) as database:
        bring_up(database, (ONE,), "it")
    with opened(unversioned) as writer, closing(sqlite3.connect(unversioned, isolation_level=None, timeout=0)) as other:
        writer.execute("BEGIN IMMEDIATE")
        bring_up(other, (ONE,), "it")
        writer.execute("ROLLBACK")
