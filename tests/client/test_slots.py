"""Charged answers leave at public times; everything else at once. By a clock of our own."""

import threading
from typing import Any

import pytest

from sonoshare_client.agent.slots import SystemTiming, require_time_to_answer, wait_for_slot
from sonoshare_shared.errors import FederationError, PolicyError


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def wait(self, seconds: Any) -> bool:
        self.time += seconds
        return True


@pytest.mark.parametrize(
    ("work", "leaves"), [(0.0, 60.0), (0.001, 60.0), (59.9, 60.0), (60.0, 60.0), (60.1, 120.0), (3599.0, 3840.0)]
)
def test_an_answer_leaves_after_a_slot_or_it_doubled(work: float, leaves: float) -> None:
    clock = Clock()
    arrived = clock.now()
    clock.time += work
    wait_for_slot(clock, arrived, 60.0)
    assert clock.now() - arrived == pytest.approx(leaves)


def test_one_patient_more_is_not_seen_among_thousands_of_slots() -> None:
    """A plan that the default policy allows: K = 64, 1000 steps at rate .5; a patient adds half an hour and more."""
    seen = set()
    for patients in (100, 101, 120):
        clock = Clock()
        arrived = clock.now()
        clock.time += patients * 0.5 * 1000 * 4.0
        wait_for_slot(clock, arrived, 60.0)
        seen.add(clock.now() - arrived)
    assert len(seen) == 1


def test_no_slot_waits_for_nothing() -> None:
    clock = Clock()
    wait_for_slot(clock, clock.now() - 7.0, 0.0)
    assert clock.now() == 1000.0


def test_a_stop_ends_the_wait_and_nothing_leaves_before_its_slot() -> None:
    timing = SystemTiming()
    threading.Timer(0.05, timing.stop).start()
    with pytest.raises(FederationError, match="stopped"):
        wait_for_slot(timing, timing.now(), 3600.0)
    with pytest.raises(FederationError, match="stopped"):
        wait_for_slot(timing, timing.now(), 3600.0)


def test_a_round_that_closes_before_any_answer_could_leave_is_refused() -> None:
    require_time_to_answer(60, 60.0)
    require_time_to_answer(1, 0.0)
    with pytest.raises(PolicyError, match="closes a round after 59 s; this hospital answers no sooner than after 60 s"):
        require_time_to_answer(59, 60.0)
