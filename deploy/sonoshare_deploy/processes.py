"""Processes that a command starts, and that end with it: on success, on failure, on Ctrl-C, and when it is killed.

Each has a *guardian* (``guardian``) between itself and the command: it holds the process and all that this ever starts
as one tree, and ends the tree when the command ends, however that ends. Each tree bears a mark of its own (``marks``),
by which the command finds what is left of it should the guardian itself be killed.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from sonoshare_deploy import guardian
from sonoshare_deploy.marks import end_bearers, marked, new_mark
from sonoshare_shared.errors import FederationError

POLL_SECONDS: Final = 0.2
_PROGRAM: Final = (sys.executable, "-P", "-m", guardian.__name__)
_END_SECONDS: Final = guardian.GRACE_SECONDS + guardian.HELPER_SECONDS + guardian.KILL_SECONDS
_LAST_BYTES: Final = 1 << 16
_FAILURE: Final = re.compile(r"error|failed|refused", re.IGNORECASE)


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
    """A running process and where it logs.

    Attributes:
        name: of the process and its log.
        process: its guardian, which ends when it does and with its exit status.
        log: its output.
        mark: borne by all that was started under it.
        began: length of the log when it was started.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    mark: str
    began: int = 0

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def last_line(self) -> str:
        """The last line of what it has logged that speaks of a failure, else the last line; for an error message."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                began = self.began if self.began <= end else 0  # the log was put aside meanwhile
                file.seek(max(began, end - _LAST_BYTES))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            lines = []
        failures = [line for line in lines if _FAILURE.search(line)]
        return (failures or lines)[-1].strip()[:200] if lines else "no output"

    def cause(self) -> str:
        """Why it ended, as far as it is known."""
        status = self.process.poll() or 0
        number = status - 128 if status > 128 else -status
        if number in set(signal.Signals):
            return f"{'' if status > 0 else 'its guardian was '}killed by {signal.Signals(number).name}"
        return self.last_line()

    def ask_to_end(self) -> None:
        """Let go of the leash."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def end(self) -> None:
        """End it and all that it has started."""
        self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=_END_SECONDS)
        if self.running:
            self.process.kill()
            self.process.wait()
        if self.process.returncode < 0:  # the guardian was killed: who had detached is found by the mark
            end_bearers(self.mark)


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
        log, mark = self._logs / f"{name}.log", new_mark()
        began = log.stat().st_size if log.exists() else 0
        place = [
            str(log),
            guardian.NONE if user is None else f"{user.uid}:{user.gid}",
            guardian.NONE if folder is None else str(folder),
        ]
        process = subprocess.Popen(
            [*_PROGRAM, *place, "--", *command],
            env=marked(environment, mark),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        supervised = Supervised(name, process, log, mark, began)
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

    def end(self, supervised: Supervised) -> None:
        """End one of those that were started, and all that it has started."""
        supervised.end()
        if supervised in self._started:
            self._started.remove(supervised)

    def stop(self) -> None:
        """End everything, all at once: ask, wait, then kill what is left, descendants included."""
        for supervised in reversed(self._started):
            supervised.ask_to_end()
        for supervised in self._started:
            supervised.end()
        self._started.clear()


def end_on_signals() -> None:
    """Let Ctrl-C, a termination signal and a closed terminal end this process in order, by KeyboardInterrupt.

    A shell starts background commands with Ctrl-C ignored, and Python then keeps it so; here it never is. Whoever
    starts a command under ``nohup`` wants it to outlive the terminal, and it does.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


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
