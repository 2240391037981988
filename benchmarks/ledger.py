"""How fast the privacy ledger charges, and whether a kill ever loses a charge.

    python -m benchmarks.ledger [--charges 1000] [--kills 1000] [--json]

Charges: reserve and commit, each its own durable transaction (WAL, synchronous=FULL), of training rounds of 1 to 20
steps, with epsilon of the whole composition checked against both budgets every time. Kills: a forked process charges
without pause, writes down each digest once `reserve` has returned, and is killed with SIGKILL at a random moment; the
ledger is then opened, verified, and compared with what was written down. Prints one JSON object as the last line:

- ``charges_per_second``: wall clock, reserve and commit together (bar 200); ``charges_per_cpu_second``;
- ``kills``, ``under_counts``: acknowledged charges missing after a kill (must be 0); ``broken``: ledgers that did not
  verify (must be 0); ``charges_before_kills``: acknowledged in all;
- ``accounting_mb``: memory of a process that has worked out the spent epsilon after every tenth round (two steps, rate
  0.25, noise multiplier 1.55, delta 0.003) until it was that large: what a hospital's agent holds for its accounting.
"""

import argparse
import json
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from sonoshare_privacy.accounting import PureDP, SampledGaussian, epsilon
from sonoshare_privacy.budget import Budget, Budgets, ChargeRequest
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import LedgerError
from sonoshare_shared.protocol.keys import SigningKey

DELTA = 1e-5
KILLS_PER_LEDGER = 10
EPSILONS = (2.0, 5.0, 10.0, 20.0)
"""The last is what a hospital spends in all as shipped."""
ACCOUNTING_DELTA = 3e-3
MOST_SECONDS = 0.05  # of life after the ledger is open


def open_ledger(path: Path, key: SigningKey) -> Ledger:
    """A ledger whose budget is not what is measured."""
    budgets = Budgets(study=Budget(1e6, DELTA), lifetime=Budget(1e6, DELTA))
    return Ledger(path, key=key, hospital="alpha", clock=lambda: datetime.now(UTC), budgets=lambda: budgets)


def charge_speed(folder: Path, charges: int) -> dict[str, float]:
    """Durable charges (reserve and commit) per second."""
    ledger = open_ledger(folder / "speed.db", SigningKey.generate())
    start, cpu = time.perf_counter(), time.process_time()
    for number in range(charges):
        event = SampledGaussian(0.25, 8.0, 1 + number % 20)
        ledger.commit(ledger.reserve(ChargeRequest("study-a", f"round {number}", (event,), DELTA, 1000)))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    ledger.verify()
    ledger.close()
    return {"charges_per_second": charges / seconds, "charges_per_cpu_second": charges / cpu}


def charge_for_ever(path: Path, key: SigningKey, log: int, ready: int) -> None:
    """Body of the process that is killed."""
    ledger = open_ledger(path, key)
    os.write(ready, b"1")
    while True:
        reservation = ledger.reserve(ChargeRequest("study-a", "round", (PureDP(0.01),), DELTA, 1000))
        os.write(log, reservation.digest.encode())
        ledger.commit(reservation)


def kill_once(path: Path, key: SigningKey, record: Path) -> None:
    """Start it, wait until it charges, kill it."""
    log = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    waiting, ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            charge_for_ever(path, key, log, ready)
        finally:
            os._exit(1)
    os.close(ready)
    os.close(log)
    os.read(waiting, 1)
    os.close(waiting)
    time.sleep(MOST_SECONDS * secrets.randbelow(1000) / 1000)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def kills(folder: Path, count: int) -> dict[str, int]:
    """Kill a charging process many times and compare."""
    missing = broken = acknowledged = 0
    key = SigningKey.generate()
    for number in range(count):
        path = folder / f"{number // KILLS_PER_LEDGER}.db"
        record = path.with_suffix(".acknowledged")
        kill_once(path, key, record)
        text = record.read_text()
        digests = {text[place : place + 64] for place in range(0, len(text), 64)}
        try:
            ledger = open_ledger(path, key)
            kept = {entry.charge.digest() for entry in ledger.entries()}
            ledger.close()
            missing += len(digests - kept)
        except LedgerError:
            broken += 1
        if number % KILLS_PER_LEDGER == KILLS_PER_LEDGER - 1 or number == count - 1:
            acknowledged += len(digests)
    return {"kills": count, "under_counts": missing, "broken": broken, "charges_before_kills": acknowledged}


def _account(epsilons: Sequence[float]) -> dict[str, float]:
    events: list[SampledGaussian] = []
    held: dict[str, float] = {}
    for wanted in epsilons:
        while not events or epsilon(events, ACCOUNTING_DELTA) < wanted:
            events += [SampledGaussian(0.25, 1.55, 2)] * 10
        held[f"{wanted:g}"] = round(psutil.Process().memory_info().rss / (1 << 20), 1)
    return held


def accounting_memory(epsilons: Sequence[float]) -> dict[str, float]:
    """Resident memory of a fresh process, MiB, by the epsilon that it has come to."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_account, epsilons).result()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--charges", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        speed = charge_speed(Path(folder), settings.charges)
        result: dict[str, Any] = {**speed, **kills(Path(folder), settings.kills)}
    result |= {"accounting_mb": accounting_memory(EPSILONS)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
