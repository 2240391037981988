"""Families of real processes that behave as badly as Flower's may: for tests of what ends them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from sonoshare_deploy import guardian
from sonoshare_deploy.marks import bearers, end_bearers, marked, new_mark

HELPER = "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(300)"
LEADER = f"""
import subprocess, sys, time
print("leader is here", flush=True)
for _ in range(2):
    subprocess.Popen([sys.executable, "-S", "-c", {HELPER!r}], start_new_session=True)
time.sleep(300)
"""
"""Two helpers of its own sessions, which hear no signal that can be ignored."""
LEADER_COMMAND = [sys.executable, "-S", "-c", LEADER]
ROLE = f"""
import os, sys
from pathlib import Path
from sonoshare_deploy.processes import Supervisor, wait_until_interrupted
with Supervisor(Path(sys.argv[1])) as supervisor:
    supervisor.start("part", {LEADER_COMMAND!r}, dict(os.environ))
    wait_until_interrupted(supervisor)
"""
MEMBERS = 5
"""Role, guardian, leader, two helpers."""
SECONDS = 30.0


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; who waits to be laid to rest does not."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def require_ended(members: Iterable[psutil.Process]) -> None:
    found = list(members)
    wait_for(lambda: not alive(found), "processes were left behind")


def leader_of(members: Iterable[psutil.Process]) -> psutil.Process:
    return next(member for member in members if member.cmdline() == LEADER_COMMAND)


def guardian_of(members: Iterable[psutil.Process]) -> psutil.Process:
    return next(member for member in members if guardian.__name__ in member.cmdline())


@contextmanager
def role(logs: Path, **options: object) -> Iterator[tuple[subprocess.Popen[bytes], list[psutil.Process]]]:
    """A role with its whole family, once all are there; whoever is left at the end is killed."""
    mark = new_mark()
    process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, "-c", ROLE, str(logs)], env=marked(os.environ, mark), **options
    )
    try:
        wait_for(lambda: len(bearers(mark)) == MEMBERS and _settled(mark), "the family did not come")
        yield process, bearers(mark)
    finally:
        end_bearers(mark)
        process.wait()


def _settled(mark: str) -> bool:
    """Whether the helpers hear no signal any more."""
    helpers = [member for member in bearers(mark) if HELPER in member.cmdline()]
    ignored = [Path(f"/proc/{member.pid}/status").read_text().split("SigIgn:\t")[1][:16] for member in helpers]
    return len(ignored) == 2 and all(int(mask, 16) & 0x4003 == 0x4003 for mask in ignored)
