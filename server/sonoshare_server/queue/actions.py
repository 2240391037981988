"""What commands have the hospitals do: who asked for it, and whether they still live.

    with begun(study, "train") as action:        # in the command: study run
        ...start a Flower run that carries action.run, and wait for it...

    require_asked_for(study, action)             # in the ServerApp, at every look for answers

A command holds the operating system's lock on a file of the study for as long as it lives, and the file beside the
lock names its action. The ServerApp, which is another process under the SuperLink, looks at both: where the lock is
free, or the file names another action, nobody waits for what it does, and it stops. So Ctrl-C, a closed terminal and
``kill -9`` of the command all stop the action within a second, with nothing to clean up.

    actions/train.lock  train.json               {"run": ..., "action": "train", "release": "", "since": ...}
    actions/audit-r1.lock  audit-r1.json

Promise: of one study, one command trains, one collects votes, and one audits or signs each release at a time; another
is refused at once. Every action has an id of its own (``run``) that its events carry.
Not promised: that a stopped action leaves nothing at the hospitals: what one of them has begun it ends, charges and
stores, and gives when it is asked again.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sonoshare_server.paths import StudyPaths
from sonoshare_server.queue.wanted import require_wanted
from sonoshare_shared.errors import FederationError, IntegrityError, StoppedError
from sonoshare_shared.locks import is_locked, locked
from sonoshare_shared.state import read_state, write_state

LOOK_SECONDS: Final = 1.0
"""Whoever looks at a free lock holds it for a moment; a command waits that moment out."""


@dataclass(frozen=True)
class Action:
    """Something that the hospitals are asked to do.

    Attributes:
        action: ``train``, ``calibrate``, ``audit`` or ``sign``.
        release: the release it is about; empty for ``train``.
        run: its own id, random.
        since: when the command asked for it.
    """

    action: str
    release: str = ""
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def name(self) -> str:
        """What no two commands do at a time. Votes are the study's, whichever release asks for them."""
        return f"{self.action}-{self.release}" if self.action in {"audit", "sign"} else self.action

    @property
    def words(self) -> str:
        """What it is, for people."""
        return f"{self.action} {self.release}".rstrip()


@contextmanager
def begun(study: StudyPaths, action: str, release: str = "") -> Iterator[Action]:
    """Hold an action for as long as the block runs.

    Raises:
        FederationError: another command does the same now.
        StoppedError: the study shall not run.
    """
    asked = Action(action, release)
    require_wanted(study)
    study.actions_path.mkdir(exist_ok=True)
    busy = FederationError(
        f"another command does this for study {study.path.name}: {asked.words}",
        remedy="wait for it, or stop it: sonoshare coordinator study stop",
    )
    with locked(_lock(study, asked.name), busy, LOOK_SECONDS):
        write_state(_file(study, asked.name), asked)
        yield asked


def running(study: StudyPaths) -> list[Action]:
    """Actions of a study whose commands live, the oldest first."""
    names = [path.stem for path in study.actions_path.glob("*.lock")]
    found = [_read(study, name) for name in names if is_locked(_lock(study, name))]
    return sorted((action for action in found if action is not None), key=lambda action: action.since)


def require_asked_for(study: StudyPaths, action: Action) -> None:
    """Check that somebody still waits for an action.

    Raises:
        StoppedError: its command ended, or its study shall not run.
    """
    require_wanted(study)
    now = _read(study, action.name)
    if now is None or now.run != action.run or not is_locked(_lock(study, action.name)):
        raise StoppedError(
            "the command that asked for it ended", remedy="run it again: what hospitals have done is given again"
        )


def _read(study: StudyPaths, name: str) -> Action | None:
    try:
        return read_state(_file(study, name), Action, remedy="run it again")
    except (FileNotFoundError, IntegrityError):
        return None


def _lock(study: StudyPaths, name: str) -> Path:
    return study.actions_path / f"{name}.lock"


def _file(study: StudyPaths, name: str) -> Path:
    return study.actions_path / f"{name}.json"
