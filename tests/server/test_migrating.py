"""Databases of every version are brought to every other, and a kill in the middle leaves one or the other."""

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from tests.server.postgres import fresh_schema, postgres

from sonoshare_server import databases
from sonoshare_server.catalogue import migrating
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.migrating import NEWEST, bring_up, change_to
from sonoshare_server.catalogue.schema import METADATA
from sonoshare_server.databases import engine_of
from sonoshare_shared.errors import FederationError, InputError, NewerVersionError

OLD = Path(__file__).parents[1] / "golden" / "v1" / "catalogue.db"
TOKEN = ("0" * 64, "r1", "Ada", "ada@example.org", "teaching", "1.0", "2026-11-28T10:00:00+00:00", "2099", None)
MOST_STATEMENTS = 90
STRIDE = 6
"""Every statement takes a minute of a busy machine; with 1 all are tried."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every connection of a test is closed at its end."""
    made: list[sa.Engine] = []

    def kept(place: Path | str) -> sa.Engine:
        made.append(databases.engine_of(place))
        return made[-1]

    monkeypatch.setattr(f"{__name__}.engine_of", kept)
    yield
    for engine in made:
        engine.dispose()


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def empty(request: pytest.FixtureRequest, tmp_path: Path, engines: None) -> Path | str:
    if request.param == "SQLite":
        return tmp_path / "catalogue.db"
    return fresh_schema(request.getfixturevalue("server"))


def old(place: Path | str, version: int) -> sa.Engine:
    """A database of an older version with a release and a token in it."""
    engine = engine_of(place)
    if isinstance(place, Path):
        shutil.copy(OLD, place)
    else:
        change_to(engine, 1)
    with engine.connect().execution_options(sonoshare_writing=True) as connection, connection.begin():
        if not isinstance(place, Path):
            with closing(sqlite3.connect(OLD)) as file:
                (row,) = file.execute("SELECT * FROM releases").fetchall()
            fill(connection, "releases", row)
        fill(connection, "tokens", TOKEN)
    if version > 1:
        change_to(engine, version)
    return engine


def fill(connection: sa.Connection, table: str, row: tuple[Any, ...]) -> None:
    kept = sa.Table(table, sa.MetaData(), autoload_with=connection)
    connection.execute(sa.insert(kept).values(dict(zip(kept.columns.keys(), row, strict=True))))


def content(engine: sa.Engine) -> dict[str, list[dict[str, Any]]]:
    """All tables but the numbers that count changes and versions."""
    with engine.connect() as connection:
        kept = sa.MetaData()
        kept.reflect(connection)
        return {
            name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for name, table in kept.tables.items()
            if name not in {"alembic_version", "changes"}
        }


def version(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return migrating._standing(connection)


def test_the_steps_lead_to_the_tables_that_the_code_knows(empty: Path | str) -> None:
    engine = engine_of(empty)
    bring_up(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    steps = ScriptDirectory(str(Path(migrating.__file__).parent / "migrations"))
    assert steps.get_current_head() == f"{NEWEST:04d}"
    assert len(list(steps.walk_revisions())) == NEWEST


def test_an_old_database_comes_up_without_loss(empty: Path | str) -> None:
    engine = old(empty, 1)
    before = content(engine)
    Database(empty).close()
    after = content(engine)
    assert version(engine) == NEWEST
    (release,), (token,) = before["releases"], before["tokens"]
    summary = json.loads(release["summary"])
    files = summary.pop("files")
    (now,) = after["releases"]
    assert (json.loads(now.pop("summary")), json.loads(now.pop("files"))) == (summary, files)
    assert now == {name: value for name, value in release.items() if name != "summary"} | {"bundle": "releases/r1"}
    assert [row["release"] for row in after["listed"]] == ["r1"]
    assert [row["label"] for row in after["listed_classes"]] == ["benign", "malignant"]
    assert after["tokens"] == [token | {"account": None, "label": ""}]


@pytest.mark.parametrize("step", range(2, NEWEST + 1))
def test_case_70_every_step_goes_down_and_up_again_with_what_is_in_it(empty: Path | str, step: int) -> None:
    engine = old(empty, step)
    before = content(engine)
    change_to(engine, step - 1)
    assert version(engine) == step - 1
    change_to(engine, step)
    assert (version(engine), content(engine)) == (step, before)


def test_an_older_sonoshare_opens_what_went_down_to_it(tmp_path: Path) -> None:
    engine = old(tmp_path / "catalogue.db", NEWEST)
    change_to(engine, 2)
    with closing(sqlite3.connect(tmp_path / "catalogue.db")) as file:
        names = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert file.execute("PRAGMA user_version").fetchone() == (2,)
    assert names == {"releases", "tokens"}


def killed_before_statement(number: int, place: Path | str, target: int) -> bool:
    """Change a version in a child that is killed before a statement; False when it came to its end."""
    child = os.fork()
    if child == 0:
        left = [number]

        def count(*_: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            engine = engine_of(place)
            sa.event.listen(engine, "before_cursor_execute", count)
            sa.event.listen(engine, "commit", count)
            change_to(engine, target)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize(("start", "target"), [(1, NEWEST), (NEWEST, 1)])
def test_case_70_killed_in_the_middle_a_database_is_of_one_version_or_the_other(
    empty: Path | str, start: int, target: int
) -> None:
    engine = old(empty, start)
    before, releases = content(engine), []
    for number in range(0, MOST_STATEMENTS, STRIDE):
        engine.dispose()
        if not killed_before_statement(number, empty, target):
            break
        assert (version(engine), content(engine)) == (start, before), number
        releases.append(number)
    assert len(releases) >= 3
    assert version(engine) == target
    (token,), (seen,) = before["tokens"], content(engine)["tokens"]
    assert {name: token.get(name, seen[name]) for name in seen} == seen
    # The same again has nothing left to do, and the way on is open.
    change_to(engine, target)
    bring_up(engine)
    assert version(engine) == NEWEST


def test_of_servers_that_start_at_once_one_makes_the_steps(empty: Path | str) -> None:
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                Database(empty)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert version(engine_of(empty)) == NEWEST


def test_a_database_of_a_newer_version_is_not_touched(empty: Path | str) -> None:
    engine = old(empty, NEWEST)
    with engine.connect().execution_options(sonoshare_writing=True) as connection, connection.begin():
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :n"), {"n": f"{NEWEST + 1:04d}"})
    with pytest.raises(NewerVersionError, match=f"version {NEWEST + 1}, known here {NEWEST}"):
        Database(empty)


@pytest.mark.parametrize("url", ["mysql://a@b/c", "nonsense", "sqlite://", "postgresql+asyncpg://b/c", ""])
def test_a_url_that_names_no_known_database_is_one_line(url: str) -> None:
    with pytest.raises(InputError, match="DATABASE_URL"):
        Database(url)


def test_a_database_that_does_not_answer_is_one_line_without_the_password() -> None:
    with pytest.raises(FederationError) as caught:
        Database("postgresql://fed:secret@127.0.0.1:1/catalogue")
    assert "secret" not in str(caught.value)
