"""The agent's own event log, for the hospital's eyes and for progress displays on the same machine.

One JSON object a line in ``state/events.jsonl``. It never holds a figure computed from patients: progress through
public numbers of steps, verdicts, refusals and their reasons.
"""

import json
from datetime import UTC, datetime
from pathlib import Path


class EventLog:
    """Appends events to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(self, kind: str, **fields: object) -> None:
        """Append one event."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(), "kind": kind, **fields})
        with self._path.open("a") as file:
            file.write(line + "\n")
