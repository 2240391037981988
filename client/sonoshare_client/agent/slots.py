"""Public times: how long a charged answer takes tells how often a slot was doubled, and nothing finer.

The length of a training or an audit grows with the number of patients, and no charge covers it. So an answer to a
request that was charged leaves one slot after the request arrived, or two, four, eight and so on. Multiples would not
do: a coordinator decides how long a training takes, and among thousands of slots one patient more is seen. What
depends on public things alone (an answer that was given before, a refusal before the charge) leaves at once.

Promises: an answer leaves a slot times a power of two after its arrival, up to the scheduler's few milliseconds after
that, which depend on nothing of a patient. Not promised: that *which* power tells nothing: work that ends near such a
time may fall on either side of it. Choose a slot that is longer than a round takes (docs/how-to/rules.md).
"""

import logging
import threading
import time
from typing import Protocol

from sonoshare_shared.errors import FederationError, PolicyError

_log = logging.getLogger(__name__)


class Timing(Protocol):
    """The passing of time, as the agent meets it."""

    def now(self) -> float:
        """Seconds of a clock that never goes back."""

    def wait(self, seconds: float) -> bool:
        """Return True after so many seconds, or False as soon as the agent is told to stop."""


class SystemTiming:
    """The system's monotonic clock, and a wait that ``stop`` ends."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Wait; False when stopped."""
        return not self._stopped.wait(seconds)

    def stop(self) -> None:
        """End every wait, now and from now on."""
        self._stopped.set()


def require_time_to_answer(deadline_seconds: float, slot_seconds: float) -> None:
    """Refuse a round that closes before any answer could leave: it would be charged for nothing.

    Raises:
        PolicyError: it does.
    """
    if deadline_seconds < slot_seconds:
        raise PolicyError(
            f"the plan closes a round after {deadline_seconds:g} s; this hospital answers no sooner than after "
            f"{slot_seconds:g} s",
            remedy="ask for a longer --round-deadline, or lower federation.reply_slot_seconds",
        )


def wait_for_slot(timing: Timing, arrived: float, slot_seconds: float) -> None:
    """Return when a slot, or it doubled as often as need be, has passed since ``arrived``.

    Args:
        timing: the clock.
        arrived: when the request came, by that clock.
        slot_seconds: length of a slot; 0 returns at once.

    Raises:
        FederationError: the agent was told to stop; nothing must leave before its time.
    """
    if slot_seconds <= 0:
        return
    passed, due = timing.now() - arrived, slot_seconds
    while due < passed:
        due *= 2
    if due > slot_seconds:
        _log.warning("the answer took longer than a slot: raise federation.reply_slot_seconds above %g s", passed)
    if not timing.wait(due - passed):
        raise FederationError("the agent was stopped before its answer was due", remedy="start it and ask again")
