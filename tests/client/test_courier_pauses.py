"""How long the courier's worker waits for the next message: short after one, never long."""

import signal
from types import SimpleNamespace

import pytest

from sonoshare_client.courier import worker


@pytest.mark.parametrize(("silent", "pause"), [(0.0, 0.0), (0.5, 0.1), (2.0, 0.4), (5.0, 1.0), (3600.0, 1.0)])
def test_a_pause_is_a_fifth_of_the_time_since_the_last_message_and_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch, silent: float, pause: float
) -> None:
    now, slept, alarms = [100.0], list[float](), list[int]()
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=slept.append))
    monkeypatch.setattr(signal, "alarm", alarms.append)
    children = worker.Children(lambda frame: frame)
    now[0] += silent
    children.pause()
    assert slept == [pytest.approx(pause)]
    assert alarms == [worker.TURN_SECONDS]
