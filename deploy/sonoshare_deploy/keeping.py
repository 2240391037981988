"""Keeping the parts of a role running: a part that ends is started again, after a pause that grows.

The pause before the n-th restart in a row is drawn between half of and all of min(30 s, 2ⁿ⁻¹ s), so that hospitals
whose coordinator came back do not all call in the same moment. A part that has run for a minute has recovered: the next
pause is the first one again. Each end and each restart is told in one line, with the cause.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from sonoshare_shared.errors import SonoShareError

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
RECOVERED_SECONDS: Final = 60.0
_MOST_DOUBLINGS: Final = 16


class Part(Protocol):
    """Something that a role keeps running."""

    @property
    def name(self) -> str:
        """What it is called in logs."""

    @property
    def running(self) -> bool:
        """Whether it runs."""

    def start(self) -> None:
        """Start it.

        Raises:
            SonoShareError: it cannot be started now.
        """

    def end(self) -> None:
        """End what is left of it."""

    def last_words(self) -> str:
        """Why it ended, as far as it said."""


@dataclass
class Facts:
    """How a part stands.

    Attributes:
        running: whether it runs.
        since: since when.
        restarts: how often it was started again.
        last_exit: why it last ended; empty if it never did.
    """

    running: bool
    since: datetime
    restarts: int = 0
    last_exit: str = ""


class Tell(Protocol):
    """Takes what has happened."""

    def __call__(self, kind: str, **fields: object) -> None:
        """Something has happened."""


@dataclass
class _Kept:
    part: Part
    facts: Facts
    started: float
    failures: int = 0
    due: float | None = None


def pause_seconds(failures: int, share: float) -> float:
    """The pause before a restart.

    Args:
        failures: how often in a row the part has ended, this time included; from 1.
        share: between 0 and 1, drawn anew for each pause.
    """
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
    return longest * (0.5 + 0.5 * share)


class Keeper:
    """Keeps parts running that run already.

    Args:
        parts: those that run now.
        tell: takes ``ended`` and ``restarted``.
        now: a clock that never goes back, in seconds.
        draw: a number between 0 and 1.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        tell: Tell,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._tell, self._now, self._draw = tell, now, draw
        self._kept = [_Kept(part, Facts(running=True, since=datetime.now(UTC)), now()) for part in parts]

    @property
    def facts(self) -> dict[str, Facts]:
        """How each part stands."""
        return {kept.part.name: kept.facts for kept in self._kept}

    def look(self) -> bool:
        """Look at every part once, and do what is due; whether anything has changed."""
        changed = [self._look_at(kept) for kept in self._kept]
        return any(changed)

    def _look_at(self, kept: _Kept) -> bool:
        if kept.due is not None:
            return self._now() >= kept.due and self._start(kept)
        if kept.part.running:
            if self._now() - kept.started > RECOVERED_SECONDS:
                kept.failures = 0
            return False
        cause = kept.part.last_words()
        kept.part.end()
        self._ended(kept, cause)
        return True

    def _ended(self, kept: _Kept, cause: str) -> None:
        kept.failures += 1
        pause = pause_seconds(kept.failures, self._draw())
        kept.due = self._now() + pause
        kept.facts.running, kept.facts.since, kept.facts.last_exit = False, datetime.now(UTC), cause
        self._tell("ended", part=kept.part.name, cause=cause, again_seconds=round(pause, 1))

    def _start(self, kept: _Kept) -> bool:
        try:
            kept.part.start()
        except SonoShareError as error:
            kept.part.end()
            self._ended(kept, error.message)
            return True
        kept.due, kept.started = None, self._now()
        kept.facts.running, kept.facts.since = True, datetime.now(UTC)
        kept.facts.restarts += 1
        self._tell("restarted", part=kept.part.name, restarts=kept.facts.restarts)
        return True
