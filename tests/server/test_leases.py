"""Leases, in files, in a database and in memory: one owner at a time, taken over when it goes silent, by one only."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
import sqlalchemy as sa
from tests.server.memory import MemoryLeases
from tests.server.postgres import fresh_schema, postgres

from sonoshare_server.release.drawing_database import JOBS, DrawingDatabase, InDatabase
from sonoshare_server.release.leases import FileLeases, Leases
from sonoshare_shared.errors import InputError

WORK = "shard-000001"
SECONDS = 0.6


class Workers(Protocol):
    """Workers that share their leases."""

    def worker(self) -> Leases:
        """Another worker."""

    def hanging(self, work: str) -> Callable[[], None]:
        """Another worker claims a piece and hangs; the answer lets it go on and give the piece back."""

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""


@dataclass
class InMemory:
    now: float = 1000.0
    table: dict[str, MemoryLeases] = field(default_factory=dict)
    held: list[AbstractContextManager[None]] = field(default_factory=list)

    def worker(self) -> MemoryLeases:
        return MemoryLeases(self.table, lambda: self.now, SECONDS)

    def hanging(self, work: str) -> Callable[[], None]:
        worker = self.worker()
        worker.claim(work)
        kept = worker.kept(work)
        kept.__enter__()
        self.held.append(kept)  # whoever hangs gives nothing back by being forgotten
        worker.silent_since = self.now
        return lambda: kept.__exit__(None, None, None) and None  # type: ignore[return-value]

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class InFiles:
    folder: Path
    children: list[int] = field(default_factory=list)

    def worker(self) -> FileLeases:
        return FileLeases(self.folder, seconds=SECONDS)

    def hanging(self, work: str) -> Callable[[], None]:
        child = self.holding(work)
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)

        def go_on() -> None:
            os.kill(child, signal.SIGCONT)
            os.kill(child, signal.SIGUSR1)
            os.waitpid(child, 0)
            self.children.remove(child)

        return go_on

    def pass_by(self, seconds: float) -> None:
        time.sleep(seconds)

    def holding(self, work: str, machine: str = "") -> int:
        """A process that has claimed a piece, on a machine of this name; SIGUSR1 has it give the piece back."""
        claimed, tell = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        child = os.fork()
        if child == 0:
            try:
                if machine:
                    socket.gethostname = lambda: machine
                leases = self.worker()
                if leases.claim(work):
                    with leases.kept(work):
                        os.write(tell, b"1")
                        signal.sigwait({signal.SIGUSR1})
            finally:
                os._exit(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        self.children.append(child)
        os.close(tell)
        assert os.read(claimed, 1) == b"1"
        os.close(claimed)
        return child


class InTables:
    """Workers that share a database; one that hangs has claimed a piece and does not beat."""

    def __init__(self, url: str) -> None:
        self.database = DrawingDatabase(url)
        self.database.make_tables()
        with self.database.writing() as connection:
            connection.execute(sa.insert(JOBS).values(drawing="key/r1", signed=b"job"))
        self._count = 0

    def worker(self) -> Leases:
        self._count += 1
        return InDatabase(self.database, "key/r1", SECONDS).leases(f"worker-{self._count}")

    def hanging(self, work: str) -> Callable[[], None]:
        worker = self.worker()
        assert worker.claim(work)

        def go_on() -> None:
            with worker.kept(work):
                pass

        return go_on

    def pass_by(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["files", "memory", "SQLite", "PostgreSQL"])
def workers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workers]:
    if request.param == "memory":
        yield InMemory()
        return
    if request.param in {"SQLite", "PostgreSQL"}:
        sqlite = f"sqlite:///{tmp_path}/drawing.db"
        tables = InTables(sqlite if request.param == "SQLite" else fresh_schema(request.getfixturevalue("server")))
        yield tables
        tables.database.close()
        return
    files = InFiles(tmp_path)
    yield files
    for child in files.children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.fixture
def files(tmp_path: Path) -> InFiles:
    return InFiles(tmp_path)


def claimed_in(leases: Leases, work: str, seconds: float, pass_by: Callable[[float], None]) -> float | None:
    """After how long a worker that keeps asking gets a piece; None where it does not."""
    for look in range(21):
        if leases.claim(work):
            return seconds * look / 20
        pass_by(seconds / 20)
    return None


def test_one_of_two_gets_a_piece_and_another_piece_is_free(workers: Workers) -> None:
    one, two = workers.worker(), workers.worker()
    assert one.claim(WORK)
    assert not two.claim(WORK)
    assert not one.claim(WORK)
    assert two.claim("shard-000002")


def test_a_piece_given_back_is_free_whatever_ended_the_work(workers: Workers) -> None:
    one, two = workers.worker(), workers.worker()
    one.claim(WORK)
    with pytest.raises(KeyboardInterrupt), one.kept(WORK):
        raise KeyboardInterrupt
    assert two.claim(WORK)
    with two.kept(WORK):
        pass
    assert one.claim(WORK)


def test_a_living_owner_keeps_its_piece_for_longer_than_a_lease(workers: Workers) -> None:
    one, two = workers.worker(), workers.worker()
    one.claim(WORK)
    with one.kept(WORK):
        assert claimed_in(two, WORK, 2 * SECONDS, workers.pass_by) is None
    assert two.claim(WORK)


def test_a_silent_owner_is_taken_over_after_its_lease_and_by_one_worker_only(workers: Workers) -> None:
    workers.hanging(WORK)
    two, three = workers.worker(), workers.worker()
    waited = claimed_in(two, WORK, 2 * SECONDS, workers.pass_by)
    assert waited is not None
    assert waited >= 0.7 * SECONDS
    assert not three.claim(WORK)


def test_the_one_taken_for_dead_does_not_end_its_successors_lease(workers: Workers) -> None:
    go_on = workers.hanging(WORK)
    two, three = workers.worker(), workers.worker()
    assert claimed_in(two, WORK, 3 * SECONDS, workers.pass_by) is not None
    go_on()
    assert not three.claim(WORK)


def test_the_lease_of_a_killed_worker_of_this_machine_is_free_at_once(files: InFiles) -> None:
    child = files.holding(WORK)
    two = files.worker()
    assert not two.claim(WORK)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert two.claim(WORK)


def test_the_lease_of_a_killed_worker_of_another_machine_is_free_after_its_time_and_not_before(files: InFiles) -> None:
    child = files.holding(WORK, "another-machine")
    two = files.worker()
    assert not two.claim(WORK)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    files.children.remove(child)
    waited = claimed_in(two, WORK, 2 * SECONDS, files.pass_by)
    assert waited is not None
    assert waited >= 0.7 * SECONDS  # whether its process lives cannot be seen from here


def test_an_empty_lease_left_by_a_power_cut_is_taken_over(files: InFiles) -> None:
    path = files.folder / f"{WORK}.lease"
    path.touch()
    assert not files.worker().claim(WORK)
    before = time.time() - 2 * SECONDS
    os.utime(path, (before, before))
    assert files.worker().claim(WORK)


def test_workers_that_disagree_on_the_time_of_a_lease_are_told_so(files: InFiles) -> None:
    one = files.worker()
    assert one.claim(WORK)
    with pytest.raises(InputError, match="lease-seconds"):
        FileLeases(files.folder, seconds=2 * SECONDS).claim(WORK)
