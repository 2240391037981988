"""A log of events for people's eyes and for progress displays: one JSON object a line, oldest first.

    {"time": "2026-11-28T09:30:00+00:00", "kind": "round", "round": 2, "rounds": 3}

Coordinator and hospital keep one each. It never holds a figure computed from patients: progress through public
numbers of steps, verdicts, refusals and their reasons. Nothing rests on it: a line may be lost or cut by a crash, and
is then left out. The time is the moment of writing and stays on this machine.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sonoshare_shared.durable import append_line


class EventLog:
    """Events in one file.

    Args:
        path: the file; made by the first event.
        clock: the present, aware.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path, self._clock = path, clock

    def record(self, kind: str, **fields: object) -> None:
        """Append one event.

        Raises:
            OSError: it could not be written.
        """
        append_line(self._path, json.dumps({"time": self._clock().isoformat(), "kind": kind, **fields}).encode())

    def events(self) -> list[dict[str, Any]]:
        """All events; a line that a kill or a full disk cut is left out."""
        found: list[dict[str, Any]] = []
        for line in self._path.read_text(errors="replace").splitlines() if self._path.exists() else ():
            with suppress(json.JSONDecodeError):
                event = json.loads(line)
                if isinstance(event, dict) and "kind" in event:
                    found.append(event)
        return found
