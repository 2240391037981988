"""What takes long is a command, started by a button: the same that a person types, with its lock, its turn and its log.

    commands.run_study("s1")     # sonoshare coordinator study run --home HOME --name s1

Each runs under a guardian (``processes``) and ends with the console, however that ends; what hospitals have done by
then is kept. Its output is in ``logs/console-NAME.log`` of the coordinator's folder.
"""

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sonoshare_deploy.processes import Supervised, Supervisor
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError
from sonoshare_shared.printable import printable


@dataclass(frozen=True)
class Started:
    """A command that this console has started.

    Attributes:
        words: what it does.
        running: whether it still does.
        outcome: how it ended, in words; empty while it runs.
        failed: whether it ended with an error.
    """

    words: str
    running: bool
    outcome: str
    failed: bool


class Commands:
    """Commands of one console; leave it and they end.

    Args:
        home: the coordinator's folder.
    """

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home.path.absolute()
        self._supervisor = Supervisor(home.logs_path.absolute())
        self._lock = threading.Lock()
        self._started: dict[str, tuple[str, Supervised]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._supervisor.stop()

    def run_study(self, study: str) -> None:
        """Start ``coordinator study run``.

        Raises:
            InputError: it runs already.
        """
        self._start(f"study-run-{study}", f"study {study}: run", ["study", "run", "--name", study])

    def create_release(self, study: str, release: str) -> None:
        """Start ``coordinator release create``.

        Raises:
            InputError: it runs already.
        """
        said = ["release", "create", "--study", study, "--name", release]
        self._start(f"release-create-{release}", f"release {release} of study {study}: create", said)

    def started(self) -> list[Started]:
        """All that was started, the last first."""
        with self._lock:
            return [_as_seen(words, command) for words, command in reversed(self._started.values())]

    def _start(self, name: str, words: str, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "sonoshare_deploy.cli.main", "coordinator", *arguments]
        with self._lock:
            before = self._started.pop(name, None)
            if before is not None and before[1].running:
                self._started[name] = before
                raise InputError(f"{words}: this console has started it already", remedy="wait for it, or stop it")
            started = self._supervisor.start(f"console-{name}", [*command, "--home", str(self._home)], os.environ)
            self._started[name] = (words, started)


def _as_seen(words: str, command: Supervised) -> Started:
    if command.running:
        return Started(words, running=True, outcome="", failed=False)
    failed = command.process.returncode != 0
    return Started(words, running=False, outcome=printable(command.cause()) if failed else "done", failed=failed)
