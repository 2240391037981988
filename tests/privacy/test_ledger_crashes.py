"""CASES 52, 53 and 69: the ledger under kills, races and full disks, in processes of its own."""

import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.privacy.charges import TRAINING, ample, budgets, request

from sonoshare_privacy.accounting import PureDP, epsilon
from sonoshare_privacy.budget import Budgets
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import BudgetError, LedgerError
from sonoshare_shared.protocol.keys import SigningKey


def opened(path: Path, key: SigningKey, limits: Callable[[], Budgets] = ample) -> Ledger:
    """As a process of its own opens it: the fixture's ledgers are closed by the process that runs the tests."""
    return Ledger(path, key=key, hospital="alpha", clock=lambda: datetime.now(UTC), budgets=limits)


def test_case_53_of_two_processes_exactly_one_wins_the_last_unit(tmp_path: Path, key: SigningKey) -> None:
    limit = budgets(epsilon([TRAINING], 1e-5))
    for attempt in range(5):
        path = tmp_path / f"{attempt}.db"
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    ledger = opened(path, key, lambda: limit)
                    ledger.reserve(request())
                    status = 0
                except BudgetError:
                    status = 3
                finally:
                    os._exit(status)
            children.append(child)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        assert codes == [0, 3, 3, 3]


def test_case_53_of_many_threads_exactly_one_wins(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger(budgets=budgets(epsilon([TRAINING], 1e-5)))
    results = []

    def attempt() -> None:
        try:
            results.append(ledger.reserve(request()))
        except BudgetError:
            results.append(None)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result is not None for result in results) == 1


def _child(path: Any, key: Any, acknowledged: Any, limit: Any = None) -> None:
    """Reserve until killed or failed; every acknowledged charge is written down at once."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    log = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    ledger = opened(path, key)
    for _ in range(200):
        reservation = ledger.reserve(request("study-a", PureDP(0.01)))
        os.write(log, reservation.digest.encode())
        ledger.commit(reservation)


def _fork(*arguments: Any) -> int:
    child = os.fork()
    if child == 0:
        try:
            _child(*arguments)
        finally:
            os._exit(9)
    return child


def _acknowledged(path: Path) -> set[Any]:
    text = path.read_text() if path.exists() else ""
    return {text[i : i + 64] for i in range(0, len(text), 64)}


def test_case_52_killed_at_any_moment_it_never_under_counts(tmp_path: Path, key: SigningKey) -> None:
    path, log = tmp_path / "ledger.db", tmp_path / "acknowledged"
    chance = np.random.default_rng(1)
    kept = 0
    for _ in range(12):
        child = _fork(path, key, log)
        time.sleep(0.02 + 0.15 * chance.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ledger = opened(path, key)
        ledger.verify()
        digests = {entry.charge.digest() for entry in ledger.entries() if entry.charge.kind == "reserved"}
        assert _acknowledged(log) <= digests
        assert kept <= len(digests)
        kept = len(digests)
        ledger.close()
    assert kept > 0


@pytest.mark.parametrize("offset", range(4_000, 120_000, 4_100))
def test_case_69_a_disk_that_fills_up_loses_no_acknowledged_charge(
    tmp_path: Path, key: SigningKey, offset: Any
) -> None:
    path, log = tmp_path / "ledger.db", tmp_path / "acknowledged"
    child = _fork(path, key, log, offset)
    os.waitpid(child, 0)
    ledger = opened(path, key)
    ledger.verify()
    digests = {entry.charge.digest() for entry in ledger.entries()}
    assert _acknowledged(log) <= digests
    ledger.commit(ledger.reserve(request()))
    ledger.close()


def test_case_69_a_full_disk_is_a_ledger_error_and_the_next_charge_works(tmp_path: Path, key: SigningKey) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ledger = opened(tmp_path / "l.db", key)
            ledger.reserve(request("study-a", PureDP(0.1)))
            size = (tmp_path / "l.db-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            try:
                ledger.reserve(request("study-a", PureDP(0.1)))
            except LedgerError:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                ledger.reserve(request("study-a", PureDP(0.1)))
                ledger.verify()
                status = 0 if len(ledger.entries()) == 3 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
