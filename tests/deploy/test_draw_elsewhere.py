"""A candidate drawn by machines that see a database and the coordinator's public key, and nothing else of it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from click.testing import CliRunner
from tests.deploy.conftest import SHARDS
from tests.deploy.drawings import KILLED, copy_of, draw, drawn_alone, files
from tests.server.postgres import fresh_schema, postgres
from tests.small_ballot import small_ballot

from sonoshare_deploy.cli.main import cli
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.release import pipeline
from sonoshare_server.release.draw import Outcome
from sonoshare_server.release.drawing import Drawing
from sonoshare_server.release.drawing_database import JOBS, PARTS, VARIABLE, DrawingDatabase
from sonoshare_server.release.drawing_database import SHARDS as TABLE
from sonoshare_server.release.drawing_job import drawing_of, job_of
from sonoshare_server.release.shards import DIGEST
from sonoshare_shared.errors import FederationError, InputError, IntegrityError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE, CalibrationPlan
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.model.tensors import tensor_bytes, tensors_from

ALL = str(SHARDS)
RIGHTS = """
GRANT USAGE ON SCHEMA {schema} TO {user};
GRANT SELECT ON drawing_jobs, drawing_parts TO {user};
GRANT SELECT, INSERT ON drawing_begun, drawing_shards TO {user};
GRANT SELECT, INSERT, UPDATE, DELETE ON drawing_leases TO {user};
"""


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return copy_of(trained, tmp_path)


@pytest.fixture(scope="module")
def alone(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one worker draws."""
    return drawn_alone(trained, tmp_path_factory.mktemp("alone"))


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DrawingDatabase]:
    """The database, which the environment names."""
    url = f"sqlite:///{tmp_path}/drawing.db"
    monkeypatch.setenv(VARIABLE, url)
    opened = DrawingDatabase(url)
    yield opened
    opened.close()


def key_of(home: Path) -> str:
    return CoordinatorHome(home).key.public.hex


def work(key: str, *more: str) -> None:
    line = ["coordinator", "release", "work", "--name", "r1", "--coordinator-key", key, *more]
    CliRunner().invoke(cli, line, catch_exceptions=False)


def offer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator begins, and is stopped before it draws."""

    def stopped(*_arguments: object) -> None:
        raise InputError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "draw_candidate", stopped)
        with pytest.raises(InputError, match="stopped"):
            draw(home, "--shared")


def rows(database: DrawingDatabase, table: sa.Table) -> int:
    with database.writing() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def change_shard(database: DrawingDatabase, shard: int, data: bytes) -> None:
    with database.writing() as connection:
        connection.execute(sa.update(TABLE).where(TABLE.c.shard == shard).values(data=data))


def shard_in(database: DrawingDatabase, shard: int) -> bytes:
    with database.writing() as connection:
        return bytes(connection.execute(sa.select(TABLE.c.data).where(TABLE.c.shard == shard)).scalar_one())


def otherwise(data: bytes) -> bytes:
    """A shard of the same form with one other pixel, and a digest that fits."""
    state = tensors_from(data)
    state["images"] = state["images"].clone()
    state["images"][0, 0, 0] ^= 1
    return tensor_bytes(state, {DIGEST: sha256_hex(tensor_bytes(state))})


def test_a_worker_draws_by_database_and_key_what_the_coordinator_draws_alone(
    home: Path, alone: dict[str, bytes], database: DrawingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(home, monkeypatch)
    work(key_of(home))
    assert rows(database, TABLE) == SHARDS
    draw(home, "--shared", "--workers", "0", "--recheck", ALL)
    assert files(home) == alone
    assert [rows(database, table) for table in (JOBS, PARTS, TABLE)] == [0, 0, 0]


def test_the_job_holds_no_key_and_no_word_of_another_study_or_a_hospital(
    home: Path, database: DrawingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(home, monkeypatch)
    coordinator = CoordinatorHome(home)
    job = database.job(coordinator.key.public, "r1")
    told = b"".join([job.signed, *job.parts.values()])
    secrets = [path.read_bytes().strip() for path in home.rglob("*.key")]
    assert len(secrets) >= 2
    assert not any(secret in told for secret in secrets)
    assert sorted(job.parts) == ["adapter"]


def test_votes_travel_as_they_are_counted(home: Path) -> None:
    coordinator = CoordinatorHome(home)
    terms = CalibrationPlan(epsilon=1.0, ballot=small_ballot().digest(), sharpness=2.0)
    study = coordinator.study("study")
    plan = study.plan.model_copy(update={"calibration": terms})
    shares = np.random.default_rng(1).dirichlet(np.ones(4), size=len(plan.task.classes))
    asked = Drawing(plan, study.adapter(), "0" * 64, "r1", 2, Outcome(small_ballot(), shares, 2.0))
    signed = Envelope.sign(PLAN_PAYLOAD_TYPE, plan.canonical(), coordinator.key)
    job = job_of(asked, signed, coordinator.key)
    given = drawing_of(job, coordinator.key.public, "r1")
    assert given.outcome is not None
    assert given.outcome.chances.tobytes() == Outcome(small_ballot(), shares, 2.0).chances.tobytes()
    assert given.pinned(torch.device("cpu")) == asked.pinned(torch.device("cpu"))
    with pytest.raises(IntegrityError, match="for release r1, not r2"):
        drawing_of(job, coordinator.key.public, "r2")


def test_a_worker_that_draws_something_else_is_named_and_its_shards_are_drawn_anew(
    home: Path, alone: dict[str, bytes], database: DrawingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(home, monkeypatch)
    work(key_of(home))
    change_shard(database, 1, otherwise(shard_in(database, 1)))
    with pytest.raises(IntegrityError, match="drew shard 1 otherwise than it is drawn here"):
        draw(home, "--shared", "--workers", "0", "--recheck", ALL)
    assert rows(database, TABLE) == 0
    draw(home, "--shared")
    assert files(home) == alone


def test_shards_that_are_none_count_as_missing(
    home: Path, alone: dict[str, bytes], database: DrawingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(home, monkeypatch)
    work(key_of(home))
    whole = shard_in(database, 1)
    state = {**tensors_from(whole), "images": torch.zeros(1, 4, 4, dtype=torch.uint8)}
    change_shard(database, 0, b"\x80\x04 no shard")
    change_shard(database, 1, tensor_bytes(state, {DIGEST: sha256_hex(tensor_bytes(state))}))
    change_shard(database, 2, shard_in(database, 2)[:-1])
    draw(home, "--shared")
    assert files(home) == alone


def test_a_killed_workers_piece_is_taken_over_after_its_lease(
    home: Path, alone: dict[str, bytes], database: DrawingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(home, monkeypatch)
    line = ["coordinator", "release", "work", "--name", "r1", "--coordinator-key", key_of(home), "--lease-seconds", "1"]
    dead = subprocess.run([sys.executable, "-c", KILLED, *line], env=os.environ, capture_output=True, check=False)
    assert dead.returncode == -signal.SIGKILL
    assert rows(database, TABLE) == 1
    begun = time.monotonic()
    work(key_of(home))
    assert time.monotonic() - begun > 1
    draw(home, "--shared", "--workers", "0", "--recheck", "0")
    assert files(home) == alone


@pytest.mark.parametrize("other", ["another key", "another adapter"])
def test_a_job_that_the_coordinator_has_not_signed_is_not_drawn(
    other: str, home: Path, database: DrawingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(home, monkeypatch)
    if other == "another key":
        with pytest.raises(InputError, match="nothing is to be drawn for r1"):
            work(SigningKey.generate().public.hex)
        return
    with database.writing() as connection:
        connection.execute(sa.update(PARTS).values(data=b"something else"))
    with pytest.raises(VerificationError, match="not what was signed"):
        work(key_of(home))


def test_a_job_that_asks_for_something_else_takes_the_place_of_the_one_before(
    home: Path, database: DrawingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(home, monkeypatch)
    work(key_of(home))
    offer(home, monkeypatch)
    assert rows(database, TABLE) == SHARDS
    study = CoordinatorHome(home).study("study")
    study.commit_round(1, study.adapter(), "0" * 64)
    offer(home, monkeypatch)
    assert (rows(database, JOBS), rows(database, TABLE)) == (1, 0)


def test_a_drawing_is_of_the_first_workers_kind_of_device_and_the_coordinator_may_draw_nothing(
    home: Path, alone: dict[str, bytes], database: DrawingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(home, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        work(key_of(home))
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        with pytest.raises(InputError, match=r"begun on another kind of device") as found:
            draw(home, "--shared", "--workers", "0")
        assert "--workers 0 --recheck 0" in found.value.remedy
        draw(home, "--shared", "--workers", "0", "--recheck", "0")
    assert files(home) == alone


def test_what_is_missing_is_told_in_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(InputError, match=f"{VARIABLE} names no database"):
        draw(home, "--shared")
    refused = CliRunner().invoke(cli, ["coordinator", "release", "draw", "--home", str(home), "--study", "study",
                                       "--name", "r1", "--workers", "0"])  # fmt: skip
    assert refused.exit_code == 2
    assert "--shared" in refused.output
    monkeypatch.setenv(VARIABLE, "postgresql://drawing:planted-secret@127.0.0.1:1/drawing")
    with pytest.raises(FederationError, match="does not answer") as found:
        draw(home, "--shared")
    assert "planted-secret" not in str(found.value)
    assert "\n" not in str(found.value)


def test_a_workers_user_of_postgresql_can_draw_and_take_nothing_away(
    home: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres() as server:
        url = fresh_schema(server)
        monkeypatch.setenv(VARIABLE, url)
        offer(home, monkeypatch)
        found = re.search(r"search_path%3D(\w+)", url)
        assert found is not None
        owner = DrawingDatabase(url)
        with owner.writing() as connection:
            connection.execute(sa.text("CREATE ROLE drawer LOGIN"))
            connection.execute(sa.text(RIGHTS.format(schema=found[1], user="drawer")))
        theirs = url.replace("sonoshare@", "drawer@")
        monkeypatch.setenv(VARIABLE, theirs)
        work(key_of(home))
        drawer = DrawingDatabase(theirs)
        for forbidden in (sa.delete(TABLE), sa.update(TABLE).values(writer="another"), sa.delete(JOBS)):
            with pytest.raises(FederationError, match="refuses"), drawer.writing() as connection:
                connection.execute(forbidden)
        drawer.close()
        monkeypatch.setenv(VARIABLE, url)
        draw(home, "--shared", "--workers", "0")
        assert (rows(owner, JOBS), rows(owner, TABLE)) == (0, 0)
        owner.close()
    assert files(home) == alone
