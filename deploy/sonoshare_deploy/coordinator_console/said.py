"""Words on the console's pages: an event as a row, and what others have said, as it prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sonoshare_deploy.cli.durations import moment
from sonoshare_deploy.cli.event_words import about
from sonoshare_deploy.cli.events import when
from sonoshare_deploy.cli.typed import typed
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.events import EventLog
from sonoshare_shared.printable import printable

_APART: Final = frozenset({"time", "level", "kind", "run", "study"})
KINDS: Final = {
    "aggregated": "round closed",
    "answered": "answered the proposal",
    "audited": "gave its verdict",
    "carry": "to be carried",
    "done": "action done",
    "failed": "action failed",
    "missing": "no answer",
    "online": "hospitals online",
    "queued": "waits for its turn",
    "ready": "ready",
    "refused": "refused",
    "revealed": "gave what a masked sum needs",
    "round": "round began",
    "sending": "candidate on its way",
    "signed": "signed the release",
    "started": "action started",
    "stopped": "action stopped",
    "trained": "all rounds done",
    "update": "trained the round",
    "void": "round void",
    "voted": "voted on the phantoms",
    "waiting": "waiting for answers",
}
_SIGNS: Final = {"warning": "INCONCLUSIVE", "error": "FAIL"}


@dataclass(frozen=True)
class EventRow:
    """An event in words.

    Attributes:
        when: to the second (UTC).
        study: whose; empty for the coordinator's own.
        what: the kind, in words.
        about: its fields, in words.
        sign: name of the colour it is shown in; empty for none.
    """

    when: str
    study: str
    what: str
    about: str
    sign: str

    @property
    def cells(self) -> list[str]:
        """What a row of a study's events shows."""
        return [self.when, self.what, self.about]


def told(text: str) -> str:
    """A reason, whoever gave it: as it prints, and with its commands as they can be pasted here."""
    return typed(printable(text))


def event_row(event: Mapping[str, Any], study: str = "") -> EventRow:
    """One event of a log."""
    kind = str(event.get("kind", ""))
    if "until" in event:
        event = {**event, "until": moment(str(event["until"]))}
    return EventRow(
        when=printable(when({"time": "", **event})),
        study=study,
        what=printable(KINDS.get(kind, kind)),
        about=typed(about(event, _APART)),
        sign=_SIGNS.get(str(event.get("level", "")), ""),
    )


def newest(events: Sequence[Mapping[str, Any]], most: int, study: str = "") -> list[EventRow]:
    """The newest events of one log, newest first."""
    return [event_row(event, study) for event in events[: -most - 1 : -1]]


def all_events(home: CoordinatorHome, most: int, *, trouble: bool = False) -> list[EventRow]:
    """The newest events of the coordinator and of all its studies, newest first.

    Args:
        home: the coordinator's folder.
        most: at most so many.
        trouble: refusals and failures alone.
    """
    logs = {"": home.events_path, **{path.parent.name: path for path in home.studies_path.glob("*/events.jsonl")}}
    rows = [event_row(event, study) for study, path in logs.items() for event in EventLog(path).events()]
    rows = [row for row in rows if row.sign or not trouble]
    return sorted(rows, key=lambda row: row.when, reverse=True)[:most]
