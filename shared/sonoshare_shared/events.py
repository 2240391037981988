"""A log of events for people's eyes and for progress displays: one JSON object a line, oldest first.

    {"time": "2026-11-28T09:30:00+00:00", "level": "info", "kind": "round", "round": 2, "rounds": 3}

Coordinator and hospital keep one each, and the coordinator one for each study. It never holds a figure computed from
patients, a name or a key: progress through public numbers of steps, verdicts, refusals and their reasons. Nothing rests
on it: a line may be lost or cut by a crash, and is then left out. The time is the moment of writing and stays on this
machine.

A log that is written for months has a size: what is older than ``most_bytes`` is put aside once (``events.1.jsonl``),
and what was there before is gone.
"""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sonoshare_shared.durable import append_line, roll, rolled
from sonoshare_shared.printable import printable

MOST_BYTES: Final = 8 << 20
"""Of a role's log: some forty thousand events, and as many put aside."""
_LEVELS: Final = {"refused": "warning", "missing": "warning", "ended": "warning", "failed": "error"}
_LONGEST_VALUE: Final = 200
_FRAME: Final = ("time", "level", "kind")


class EventLog:
    """Events in one file.

    Args:
        path: the file; made by the first event.
        clock: the present, aware.
        most_bytes: size at which the file is put aside; None for a log that ends by itself, such as a study's.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        most_bytes: int | None = None,
    ) -> None:
        self._path, self._clock, self._most_bytes = path, clock, most_bytes

    def record(self, kind: str, **fields: object) -> dict[str, Any]:
        """Append one event, and return it.

        Raises:
            OSError: it could not be written.
        """
        event = {"time": self._clock().isoformat(), "level": _LEVELS.get(kind, "info"), "kind": kind, **fields}
        if self._most_bytes is not None:
            roll(self._path, self._most_bytes)
        append_line(self._path, json.dumps(event).encode())
        return event

    def events(self) -> list[dict[str, Any]]:
        """All events, those put aside too; a line that a kill or a full disk cut is left out."""
        return [
            event
            for path in (rolled(self._path), self._path)
            if path.exists()
            for event in events_in(path.read_bytes().splitlines())
        ]


class Follower:
    """What is written to an event log from now on.

    Args:
        path: of the log; it may be absent.
        from_start: give what is there already, too.
    """

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        self._path, self._file, self._read = path, 0, 0
        if path.exists() and not from_start:
            self._file, self._read = self._end()

    def new(self) -> list[dict[str, Any]]:
        """Events since the last call; of a log that was put aside meanwhile, those of the new file."""
        with suppress(FileNotFoundError):
            file, end = self._end()
            if file != self._file:
                self._file, self._read = file, 0
            if end > self._read:
                with self._path.open("rb") as opened:
                    opened.seek(self._read)
                    whole, newline, _ = opened.read(end - self._read).rpartition(b"\n")
                self._read += len(whole) + len(newline)
                return events_in(whole.splitlines())
        return []

    def _end(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_ino, status.st_size


def events_in(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The events of some lines; what is no event is left out."""
    found: list[dict[str, Any]] = []
    for line in lines:
        with suppress(json.JSONDecodeError):
            event = json.loads(line.decode(errors="replace"))
            if isinstance(event, dict) and "kind" in event:
                found.append(event)
    return found


def details(event: dict[str, Any]) -> str:
    """The fields of an event beside time, level and kind, as words on one line, whatever a peer has put into them."""
    return " ".join(f"{name}={_value(value)}" for name, value in event.items() if name not in _FRAME)


def _value(value: object) -> str:
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        value = ", ".join(value)
    text = value if isinstance(value, str) else json.dumps(value)
    shown = printable(text[:_LONGEST_VALUE])
    return f"'{shown}'" if " " in shown else shown
