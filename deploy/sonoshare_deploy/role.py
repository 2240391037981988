"""A role (agent, courier, coordinator) over its folder: one at a time, its leftovers ended, its state to be read.

    STATE/agent.lock  agent.run.json        while an agent runs; likewise courier, and coordinator in its own folder
    {"role": "agent", "pid": 4711, "started": "...", "mark": "4f1c...", "parts": {...}, "monitor": "127.0.0.1:9095"}

Whoever starts a role takes its lock, or is refused in one line. Then it reads the record that a killed one may have
left, and ends what still bears that record's mark (``marks``): so ports are free and nobody answers twice. The record's
modification time is the role's pulse: it is renewed every few seconds while the role is not hung. A role that ends in
order takes its record away, so a record that is found tells of one that could say nothing any more, and its pulse until
when it lived at least: that is recorded in its place.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sonoshare_deploy.courier_place import TEMPORARY_PREFIX
from sonoshare_deploy.keeping import Facts, Keeper, Part
from sonoshare_deploy.marks import MARK_VARIABLE, end_bearers, marked, new_mark
from sonoshare_deploy.processes import POLL_SECONDS, end_on_signals
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.events import EventLog, Follower, details
from sonoshare_shared.locks import locked
from sonoshare_shared.state import read_state, write_state

PULSE_SECONDS: Final = 5.0
STILL_SECONDS: Final = 30.0
"""A role whose pulse is older is hung, or was killed."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seat:
    """Where a role says that it runs.

    Attributes:
        role: its name.
        lock: path of its lock.
        record: path of its record.
    """

    role: str
    lock: Path
    record: Path


@dataclass
class Record:
    """What a running role says of itself.

    Attributes:
        role: its name.
        pid: process id.
        started: when it was started.
        mark: borne by all that it starts.
        parts: how its parts stand.
        monitor: where it answers health and metrics; None if nowhere.
        folders: temporary ones that it has made.
    """

    role: str
    pid: int
    started: datetime
    mark: str
    parts: dict[str, Facts] = field(default_factory=dict)
    monitor: str | None = None
    folders: list[Path] = field(default_factory=list)


def read_record(path: Path) -> Record | None:
    """What a role says of itself; None where none runs, or its record cannot be read."""
    try:
        return read_state(path, Record, remedy="start it again")
    except (OSError, IntegrityError):
        return None


def has_pulse(path: Path) -> bool:
    """Whether the role of a record runs, and is not hung."""
    try:
        return time.time() - path.stat().st_mtime < STILL_SECONDS
    except OSError:
        return False


class Role:
    """A role that runs.

    Args:
        seats: that it holds.
        events: its log.
        monitor: where it answers health and metrics.
    """

    def __init__(self, seats: Sequence[Seat], events: EventLog, monitor: str | None = None) -> None:
        self._seats, self._events = tuple(seats), events
        self.mark, self._monitor, self._started = new_mark(), monitor, datetime.now(UTC)
        self._folders: list[Path] = []

    def tell(self, kind: str, **fields: object) -> None:
        """Record an event and say it on the terminal."""
        try:
            event = self._events.record(kind, **fields)
        except OSError as error:  # a full disk must not end the role
            _log.warning("an event is lost: %s", error.strerror)
            event = {"level": "warning", "kind": kind, **fields}
        say(event)

    def owns(self, folder: Path) -> None:
        """Have a temporary folder removed by the next start, should this one be killed."""
        self._folders.append(folder)
        self.write({})

    def write(self, parts: Mapping[str, Facts]) -> None:
        """Write the record, one for each seat."""
        for seat in self._seats:
            record = Record(seat.role, os.getpid(), self._started, self.mark, dict(parts), self._monitor, self._folders)
            try:
                write_state(seat.record, record)
            except OSError as error:
                _log.warning("the record of the %s is not written: %s", seat.role, error.strerror)

    def beat(self) -> None:
        """Renew the pulse."""
        for seat in self._seats:
            try:
                os.utime(seat.record)
            except OSError as error:
                _log.warning("the record of the %s is gone: %s", seat.role, error.strerror)

    def keep(self, parts: Sequence[Part], watch: Callable[[], None] = lambda: None) -> None:
        """Keep parts running until interrupted.

        Args:
            parts: they run.
            watch: called at every look.

        Raises:
            KeyboardInterrupt: by Ctrl-C, a termination signal or a closed terminal.
        """
        end_on_signals()
        keeper, beaten = Keeper(parts, self.tell), time.monotonic()
        self.write(keeper.facts)
        while True:
            if keeper.look():
                self.write(keeper.facts)
            if time.monotonic() - beaten > PULSE_SECONDS:
                self.beat()
                beaten = time.monotonic()
            watch()
            time.sleep(POLL_SECONDS)


@contextmanager
def running(seats: Sequence[Seat], events: EventLog, monitor: str | None = None) -> Iterator[Role]:
    """Be a role, or several at once, while the block runs.

    Args:
        seats: to take.
        events: the log.
        monitor: where it answers health and metrics.

    Raises:
        InputError: one of them runs already.
    """
    log_to_terminal()
    with ExitStack() as stack:
        for seat in seats:
            busy = InputError(
                f"the {seat.role} of this folder runs already", remedy="stop it before another is started"
            )
            stack.enter_context(locked(seat.lock, busy))
        role = Role(seats, events, monitor)
        _tell_of_the_killed(seats, role)
        _end_leftovers(seats, role)
        before = os.environ.get(MARK_VARIABLE)
        os.environ.update(marked(os.environ, role.mark))
        stack.callback(_restore, before)
        role.write({})
        names = [seat.role for seat in seats]
        role.tell("started", roles=names)
        try:
            yield role
        finally:
            for seat in seats:
                seat.record.unlink(missing_ok=True)
            role.tell("stopped", roles=names)


def _tell_of_the_killed(seats: Sequence[Seat], role: Role) -> None:
    """Record the end of those who could not: killed, or the machine with them."""
    for seat in seats:
        try:
            pulse = datetime.fromtimestamp(seat.record.stat().st_mtime, UTC)
        except FileNotFoundError:
            continue
        last = f"{pulse:%Y-%m-%d %H:%M:%S} UTC"
        role.tell("ended", part=seat.role, cause=f"without a word at or after {last}: killed, or the machine went down")


def _end_leftovers(seats: Sequence[Seat], role: Role) -> None:
    records = [record for seat in seats if (record := read_record(seat.record)) is not None]
    if left := [name for mark in {record.mark for record in records} for name in end_bearers(mark)]:
        role.tell("leftovers", ended=left, cause="an earlier start was killed")
    for folder in {folder for record in records for folder in record.folders}:
        # Copies of the courier's key lie there. Whatever the record says, nothing else is removed.
        if folder.parent == Path(tempfile.gettempdir()) and folder.name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(folder, ignore_errors=True)


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop(MARK_VARIABLE, None)
    else:
        os.environ[MARK_VARIABLE] = before


def log_to_terminal() -> None:
    """Readable lines on standard error, for a terminal or a service's journal."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)


def say(event: dict[str, object], origin: str = "") -> None:
    """One line on the terminal for an event."""
    level = logging.getLevelNamesMapping().get(str(event.get("level", "info")).upper(), logging.INFO)
    _log.log(level, "%s%s %s", f"{origin} " if origin else "", event["kind"], details(event))


class StudyVoices:
    """Says on the coordinator's terminal what the actions of all studies write to their event logs.

    Args:
        studies: folder of the studies.
    """

    def __init__(self, studies: Path) -> None:
        self._studies = studies
        self._followed = {path: Follower(path) for path in self._logs()}

    def say_new(self) -> None:
        """Say what is new; a study that appears is followed from its start."""
        for path in self._logs():
            if path not in self._followed:
                self._followed[path] = Follower(path, from_start=True)
            for event in self._followed[path].new():
                say(event, f"study {path.parent.name}:")

    def _logs(self) -> list[Path]:
        return sorted(self._studies.glob("*/events.jsonl"))
