"""What a command says while hospitals work: whom it waits for, and what somebody has to carry."""

from collections.abc import Callable
from pathlib import Path

from sonoshare_shared.events import Follower


class ActionWords:
    """Follows a study's events, and says in one line what is waited for. Called at every look.

    Args:
        events: the study's event log.
        first: what the command does, for example ``study s1: training``.
        show: shows a line; set anew where another display takes over.
    """

    def __init__(self, events: Path, first: str, show: Callable[[str], None] = lambda _line: None) -> None:
        self._events, self._awaited, self._carried = Follower(events), list[str](), dict[str, str]()
        self.first, self.show = first, show

    def __call__(self) -> None:
        """Read what is new, and show it."""
        new = self._events.new()
        for event in new:
            if event["kind"] == "carry":
                self._carried[str(event["hospital"])] = str(event["words"])
            elif event["kind"] == "waiting":
                self._awaited = [str(hospital) for hospital in event["awaited"]]
                self._carried = {who: words for who, words in self._carried.items() if who in self._awaited}
        if new:
            self.show(self.line())

    def line(self) -> str:
        """The line as it stands."""
        online = [hospital for hospital in self._awaited if hospital not in self._carried]
        waits = [f"waiting for {', '.join(online)}"] if online else []
        return "; ".join([self.first, *waits, *self._carried.values()])
