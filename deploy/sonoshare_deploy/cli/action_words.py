"""What a command says while hospitals work: which step it is at, who has answered, whom it waits for, what to carry.

A line stays up to date while an action runs. Of a candidate that is sent it says how much the slowest hospital holds.
Where an action asks each hospital for something of its own (votes, an audit, a signature), every answer is besides said
once and for all, so that a log of the command has it too.

Times are seconds from the start of the action to the answer: they are public where they are seen, since charged answers
leave at a hospital's reply slot. What is left of a hospital's work is not known here, and nothing is guessed: the line
says since when it is awaited, and how long the last action of that kind took, or the last round.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sonoshare_shared.events import EventLog, Follower

_STEPS: Final = {"calibrate": "votes on phantoms", "audit": "audits", "sign": "signatures"}
_LAST: Final = {**_STEPS, "train": "training", "propose": "question", "round": "round"}
_WHOLE: Final = 100
_ANSWERS: Final = {"voted": "has voted", "audited": "has audited", "signed": "has signed"}


def _silent(_line: str) -> None:
    """Nowhere."""


class ActionWords:
    """Follows a study's events, and says in one line what is waited for. Called at every look.

    Args:
        events: the study's event log.
        first: what the command does, for example ``study s1: training``.
        show: shows a line; set anew where another display takes over.
        say: prints a line that stays.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        events: Path,
        first: str,
        show: Callable[[str], None] = _silent,
        say: Callable[[str], None] = _silent,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events, self._awaited, self._carried = Follower(events), list[str](), dict[str, str]()
        self._step, self._began, self._started = "", 0.0, ""
        self._kind, self._asked = "", ""
        self._answered: dict[str, str] = {}
        self._sent: list[str] = []
        self._clock, self._shown = clock, ""
        self._last, self._open = dict[str, float](), dict[str, str]()
        for event in EventLog(events).events():
            self._time(event)
        self.first, self.show, self.say = first, show, say

    def __call__(self) -> None:
        """Read what is new, and show the line where it has changed."""
        for event in self._events.new():
            self._take(event)
        line = self.line()
        if line not in {self._shown, self.first}:
            self._shown = line
            self.show(line)

    def line(self) -> str:
        """The line as it stands."""
        online = [hospital for hospital in self._awaited if hospital not in self._carried]
        waits = [f"waiting for {', '.join(online)}{self._since()}"] if online else []
        step = [f"{self._step}, {self._clock() - self._began:.0f} s"] if self._step else []
        return "; ".join([self.first, *step, *self._sent, *self._answered.values(), *waits, *self._carried.values()])

    def _since(self) -> str:
        """Since when, and how long it took the last time; what is not known is left out."""
        since = f"since {_clock_time(self._asked)}" if self._asked else ""
        last = self._last.get(self._kind)
        took = "" if last is None else f"the last {_LAST[self._kind]} took {last:.0f} s"
        known = ", ".join(filter(None, (since, took)))
        return f" ({known})" if known else ""

    def _time(self, event: Mapping[str, Any]) -> None:
        """How long actions of each kind, and rounds, took the last time."""
        kind, at = event["kind"], str(event.get("time", ""))
        key = str(event.get("action", "")) if kind in {"started", "done"} else "round"
        if kind in {"started", "round"}:
            self._open[key] = at
        elif kind in {"done", "aggregated"} and self._open.get(key) and at:
            self._last[key] = _seconds(self._open.pop(key), at)

    def _take(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        self._time(event)
        self._begin(kind, event)
        if kind == "started":
            self._step, self._began = _STEPS.get(str(event["action"]), ""), self._clock()
            self._started, self._answered, self._sent = str(event["time"]), {}, []
        elif kind == "done":
            self._step, self._answered, self._awaited, self._sent = "", {}, [], []
        elif kind == "sending":
            self._sent = [f"{event['percent']} % of the candidate sent"] if event["percent"] < _WHOLE else []
        elif kind == "carry":
            self._carried[str(event["hospital"])] = str(event["words"])
        elif kind == "waiting":
            self._awaited = [str(hospital) for hospital in event["awaited"]]
            self._carried = {who: words for who, words in self._carried.items() if who in self._awaited}
        elif kind in _ANSWERS:
            self._answer(str(event["hospital"]), kind, event)

    def _begin(self, kind: str, event: Mapping[str, Any]) -> None:
        """An action or a round begins: what is waited for from now on is of it."""
        if kind == "started":
            self._kind, self._asked = str(event["action"]), str(event["time"])
        elif kind == "round":
            self._kind, self._asked = "round", str(event["time"])
            self._step, self._began = f"round {event['round']} of {event['rounds']}", self._clock()

    def _answer(self, hospital: str, kind: str, event: Mapping[str, Any]) -> None:
        verdict = f": {event['verdict']}" if "verdict" in event else ""
        after = f" after {_seconds(self._started, str(event['time'])):.0f} s" if self._started else ""
        self._answered[hospital] = f"{hospital} {_ANSWERS[kind]}{verdict}{after}"
        self._awaited = [other for other in self._awaited if other != hospital]
        self.say(self._answered[hospital])


def _clock_time(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%H:%M} UTC"


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
