"""Leases: one owner at a time, taken over when it goes silent, by one only."""

import time

import pytest

from sonoshare_server.release.leases import HEARTBEATS, Leases

WORK = "shard-000001"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def of(folder, owner, clock, seconds=60.0):
    return Leases(folder, owner, seconds=seconds, clock=clock)


def test_one_of_two_gets_a_piece_and_another_piece_is_free(tmp_path, clock):
    one, two = of(tmp_path, "one", clock), of(tmp_path, "two", clock)
    assert one.claim(WORK)
    assert not two.claim(WORK)
    assert not one.claim(WORK)
    assert two.claim("shard-000002")


def test_a_piece_given_back_is_free(tmp_path, clock):
    one, two = of(tmp_path, "one", clock), of(tmp_path, "two", clock)
    one.claim(WORK)
    with pytest.raises(KeyboardInterrupt), one.kept(WORK):
        raise KeyboardInterrupt
    assert two.claim(WORK)


def test_a_silent_owner_is_taken_over_by_one_worker_only(tmp_path, clock):
    dead, two, three = (of(tmp_path, name, clock) for name in ("dead", "two", "three"))
    dead.claim(WORK)
    clock.now += 59.0
    assert not two.claim(WORK)
    clock.now += 2.0
    assert two.claim(WORK)
    assert not three.claim(WORK)


def test_the_one_taken_for_dead_neither_ends_nor_renews_its_successors_lease(tmp_path, clock):
    slow, two, three = (of(tmp_path, name, clock) for name in ("slow", "two", "three"))
    slow.claim(WORK)
    with slow.kept(WORK):
        clock.now += 61.0
        assert two.claim(WORK)
        slow.renew(WORK)
    assert not three.claim(WORK)
    clock.now += 61.0
    assert three.claim(WORK)


def test_a_heartbeat_keeps_a_lease_longer_than_its_seconds(tmp_path):
    seconds = 0.4
    one, two = (Leases(tmp_path, name, seconds=seconds) for name in ("one", "two"))
    one.claim(WORK)
    with one.kept(WORK):
        end = time.monotonic() + 3 * seconds
        while time.monotonic() < end:
            assert not two.claim(WORK)
            time.sleep(seconds / HEARTBEATS / 2)


def test_an_empty_lease_left_by_a_power_cut_is_taken_over(tmp_path, clock):
    of(tmp_path, "one", clock).claim(WORK)
    next(tmp_path.glob("*.lease")).write_text("")
    assert of(tmp_path, "two", clock).claim(WORK)
