"""Public time slots: how long a charged answer takes tells a number of slots, and nothing finer.

The length of a training or an audit grows with the number of patients, and no charge covers it. So an answer to a
request that was charged leaves when a multiple of the slot has passed since the request arrived. What depends on
public things alone (an answer that was given before, a refusal before the charge) leaves at once.

Promises: an answer leaves at a multiple of the slot after its arrival, up to the scheduler's few milliseconds after
that, which depend on nothing of a patient. Not promised: that the *number* of slots tells nothing. Choose a slot that
is longer than a round takes (docs/hospital.md).
"""

import math
import threading
import time
from typing import Protocol

from sonoshare_shared.errors import FederationError


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


def wait_for_slot(timing: Timing, arrived: float, slot_seconds: float) -> None:
    """Return when a multiple of the slot has passed since ``arrived``.

    Args:
        timing: the clock.
        arrived: when the request came, by that clock.
        slot_seconds: length of a slot; 0 returns at once.

    Raises:
        FederationError: the agent was told to stop; nothing must leave before its slot.
    """
    if slot_seconds <= 0:
        return
    passed = timing.now() - arrived
    if not timing.wait(max(1, math.ceil(passed / slot_seconds)) * slot_seconds - passed):
        raise FederationError("the agent was stopped before its answer was due", remedy="start it and ask again")
