"""How long a catalogue is waited for that is busy, restarts, or loses the line: longer each time, and not for ever.

A catalogue that says when to come back (``Retry-After``) is asked again then, unless that is too far away. What waits
is given from outside, so that a stop ends it at once.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from sonoshare_shared.protocol.release.sources import TransferCutError

ATTEMPTS_WITHOUT_PROGRESS: Final = 6
LONGEST_SECONDS: Final = 300.0
"""A catalogue that asks to come back later than this is left alone: the same command goes on another time."""
TOLD_SECONDS: Final = 5.0
_FIRST_SECONDS, _MOST_SECONDS = 0.5, 30.0


class Patience:
    """Waits between attempts at one thing.

    Args:
        pause: waits for so many seconds.
        told: is told of a long wait, in words.
    """

    def __init__(self, pause: Callable[[float], object], told: Callable[[str], None] = lambda _words: None) -> None:
        self._pause, self._told = pause, told
        self._failures = 0

    def progressed(self) -> None:
        """Something came: the next failure is a first one."""
        self._failures = 0

    def wait(self, error: TransferCutError) -> None:
        """Wait before the next attempt.

        Raises:
            TransferCutError: ``error`` itself, when there is to be no other attempt.
        """
        self._failures += 1
        if self._failures >= ATTEMPTS_WITHOUT_PROGRESS or (error.after or 0) > LONGEST_SECONDS:
            raise error
        growing = min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** (self._failures - 1))
        # Many that were cut at once do not come back at once.
        seconds = max(error.after or 0.0, growing * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        if seconds >= TOLD_SECONDS:
            self._told(f"{error.message}: asking again in {seconds:.0f} s")
        self._pause(seconds)


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header (RFC 9110, section 10.2.3) asks to wait; None where it says nothing."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    then = then if then.tzinfo is not None else then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())
