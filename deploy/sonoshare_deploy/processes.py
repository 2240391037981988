"""Processes that a command starts, and that end with it: on success, on failure, on Ctrl-C, and when it is killed.

A supervised process is the leader of its own session, so that a terminal's Ctrl-C reaches only the supervisor, which
then ends it in order. Flower detaches some of its own helpers; they are found as descendants before the leader is
ended. A supervised ``sonoshare`` command is held on a *leash*: it watches its standard input, which the supervisor
keeps open, and ends itself when that closes, so that even a killed supervisor leaves nothing behind.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

import psutil

from sonoshare_shared.errors import FederationError

GRACE_SECONDS: Final = 8.0
POLL_SECONDS: Final = 0.2


class User(Protocol):
    """An operating-system user."""

    @property
    def uid(self) -> int:
        """User id."""

    @property
    def gid(self) -> int:
        """Group id."""


@dataclass(frozen=True)
class Supervised:
    """A running process and where it logs."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def last_line(self) -> str:
        """The last line of its log, for an error message."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "no output"


class Supervisor:
    """Starts processes and ends all of them when it is left.

    Args:
        logs: folder of the log files; made when the first process starts.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: list[Supervised] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        user: User | None = None,
        folder: Path | None = None,
    ) -> Supervised:
        """Start a process; its output goes to ``<name>.log``.

        Args:
            name: of the process and its log.
            command: the command line.
            environment: all of its environment.
            user: whom it runs as, with that user's own group alone; only root can name one.
            folder: where it starts; this process's own if absent.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=folder,
                user=None if user is None else user.uid,
                group=None if user is None else user.gid,
                extra_groups=None if user is None else (),
            )
        supervised = Supervised(name, process, log)
        self._started.append(supervised)
        return supervised

    def require_running(self) -> None:
        """Check that everything that was started still runs.

        Raises:
            FederationError: names the process that ended and the last line of its log.
        """
        for supervised in self._started:
            if not supervised.running:
                raise FederationError(
                    f"{supervised.name} ended: {supervised.last_line()}", remedy=f"see {supervised.log}"
                )

    def stop(self) -> None:
        """End everything, newest first: ask, wait, then kill what is left, descendants included."""
        families = [_family(supervised.process.pid) for supervised in self._started]
        for supervised in reversed(self._started):
            if supervised.process.stdin is not None:
                supervised.process.stdin.close()
            if supervised.running:
                with contextlib.suppress(ProcessLookupError):
                    supervised.process.send_signal(signal.SIGINT)
        members = [member for family in families for member in family]
        _, alive = psutil.wait_procs(members, timeout=GRACE_SECONDS)
        for member in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(alive, timeout=GRACE_SECONDS)
        for supervised in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                supervised.process.wait(timeout=GRACE_SECONDS)
        self._started.clear()


def _family(pid: int) -> list[psutil.Process]:
    try:
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end_on_signals() -> None:
    """Let Ctrl-C and a termination signal end this process in order, by KeyboardInterrupt.

    A shell starts background commands with Ctrl-C ignored, and Python then keeps it so; here it never is.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def hold_leash() -> None:
    """End this process, as by Ctrl-C, when its standard input closes."""
    end_on_signals()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True, name="leash").start()


def wait_until_interrupted(supervisor: Supervisor) -> None:
    """Wait for Ctrl-C or a termination signal, and notice when a supervised process ends.

    Raises:
        FederationError: a supervised process ended by itself.
        KeyboardInterrupt: on Ctrl-C or termination.
    """
    end_on_signals()
    while True:
        supervisor.require_running()
        time.sleep(POLL_SECONDS)
