"""Parts that end are started again, later and later, and told of; a role runs once and ends its own leftovers."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.deploy.families import alive, guardian_of, require_ended, role, wait_for

from sonoshare_deploy.keeping import LONGEST_PAUSE_SECONDS, RECOVERED_SECONDS, Keeper, pause_seconds
from sonoshare_deploy.marks import MARK_VARIABLE, bearers, end_bearers
from sonoshare_deploy.role import Seat, StudyVoices, has_pulse, read_record, running
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.events import EventLog, Follower, details
from sonoshare_shared.state import write_state


@dataclass
class Flimsy:
    """A part that runs until it is told otherwise."""

    name: str = "courier"
    running: bool = True
    starts: int = 0
    ends: int = 0
    refuses: bool = False

    def start(self) -> None:
        self.starts += 1
        if self.refuses:
            raise FederationError("its port is taken")
        self.running = True

    def end(self) -> None:
        self.ends += 1

    def last_words(self) -> str:
        return "turned away"


@dataclass
class World:
    part: Flimsy = field(default_factory=Flimsy)
    time: float = 0.0
    told: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keeper = Keeper([self.part], self.tell, now=lambda: self.time, draw=lambda: 1.0)

    def tell(self, kind: str, **fields: object) -> None:
        self.told.append({"kind": kind, **fields})

    def falls(self) -> float:
        """The part ends; how long until it is started again."""
        self.part.running = False
        began, starts = self.time, self.part.starts
        self.keeper.look()
        while self.part.starts == starts:
            self.time += 0.25
            self.keeper.look()
        return self.time - began


def test_a_part_that_ends_again_and_again_is_started_later_and_later_up_to_a_bound() -> None:
    world = World()
    assert [world.falls() for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert world.part.ends == 8, "what is left of it is ended before it is started again"
    assert world.keeper.facts["courier"].restarts == 8
    assert world.told[:2] == [
        {"kind": "ended", "part": "courier", "cause": "turned away", "again_seconds": 1.0},
        {"kind": "restarted", "part": "courier", "restarts": 1},
    ]


def test_a_part_that_has_run_for_a_while_has_recovered() -> None:
    world = World()
    assert [world.falls() for _ in range(3)] == [1, 2, 4]
    world.time += RECOVERED_SECONDS + 1
    world.keeper.look()
    assert world.falls() == 1


def test_a_part_that_cannot_be_started_is_tried_again_and_says_why() -> None:
    world = World(Flimsy(refuses=True))
    world.part.running = False
    for _ in range(40):
        world.keeper.look()
        world.time += 0.25
    assert world.part.starts == 3
    assert {told["cause"] for told in world.told[1:]} == {"its port is taken"}
    assert not world.keeper.facts["courier"].running
    world.part.refuses = False
    world.time += 30
    world.keeper.look()
    assert world.keeper.facts["courier"].running


def test_nothing_is_started_that_runs() -> None:
    world = World()
    for _ in range(5):
        world.time += 100
        assert not world.keeper.look()
    assert (world.part.starts, world.told) == (0, [])


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_pauses_are_spread_and_never_longer_than_the_bound(failures: int, one: float, other: float) -> None:
    shorter, longer = sorted((one, other))
    assert 0.5 <= pause_seconds(failures, shorter) <= pause_seconds(failures, longer) <= LONGEST_PAUSE_SECONDS
    assert pause_seconds(failures, 1) == 2 * pause_seconds(failures, 0)


@pytest.fixture
def seat(tmp_path: Path) -> Seat:
    return Seat("courier", tmp_path / "courier.lock", tmp_path / "courier.run.json")


def test_a_role_runs_once(seat: Seat, tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    with running([seat], log):
        assert (read_record(seat.record).pid, has_pulse(seat.record)) == (os.getpid(), True)
        with pytest.raises(InputError, match="the courier of this folder runs already"), running([seat], log):
            pass
        assert has_pulse(seat.record), "who was refused has touched nothing"
    assert read_record(seat.record) is None
    assert [event["kind"] for event in log.events()] == ["started", "stopped"]
    assert MARK_VARIABLE not in os.environ
    with running([seat], log):
        pass


def test_a_start_ends_what_a_killed_one_has_left_and_no_other(seat: Seat, tmp_path: Path) -> None:
    with role(tmp_path / "other") as (_, others), role(tmp_path / "logs") as (killed, members):
        mark = killed_mark(members)
        last = guardian_of(members)
        killed.kill()
        last.kill()
        killed.wait()
        left = tmp_path / "not-ours"
        left.mkdir()
        record = {"role": "courier", "pid": killed.pid, "started": "2026-11-28T09:00:00Z", "mark": mark}
        write_state(seat.record, record | {"folders": [str(left)]})
        wait_for(lambda: len(alive(members)) == 2, "the leader did not end")
        log = EventLog(tmp_path / "events.jsonl")
        with running([seat], log):
            require_ended(members)
            assert len(alive(others)) == len(others)
        assert [event["kind"] for event in log.events()] == ["ended", "leftovers", "started", "stopped"]
        assert left.exists(), "a folder that is not a courier's temporary one is left alone"
        assert end_bearers(mark) == []


@pytest.mark.parametrize("written", [True, False])
def test_the_next_start_records_the_end_of_one_that_was_killed(seat: Seat, tmp_path: Path, written: bool) -> None:
    """It could say nothing itself; its pulse says until when it lived, whatever its record says."""
    agent = Seat("agent", tmp_path / "agent.lock", tmp_path / "agent.run.json")
    log = EventLog(tmp_path / "events.jsonl")
    with running([seat, agent], log):
        record = seat.record.read_bytes()
    assert [event["kind"] for event in log.events()] == ["started", "stopped"], "it ended with a word"
    seat.record.write_bytes(record if written else b"")
    os.utime(seat.record, (0, datetime(2026, 11, 28, 9, 30, 5, tzinfo=UTC).timestamp()))
    with running([seat, agent], log):
        pass
    told = log.events()[2:]
    assert [event["kind"] for event in told] == ["ended", "started", "stopped"]
    assert (told[0]["part"], told[0]["level"]) == ("courier", "warning")
    assert told[0]["cause"] == "without a word at or after 2026-11-28 09:30:05 UTC: killed, or the machine went down"
    with running([seat, agent], log):
        pass
    assert [event["kind"] for event in log.events()[5:]] == ["started", "stopped"], "it is told once"


def killed_mark(members: list[psutil.Process]) -> str:
    return str(guardian_of(members).environ()[MARK_VARIABLE]).split(":")[0]


def test_what_a_role_starts_beside_its_parts_bears_its_mark_too(seat: Seat, tmp_path: Path) -> None:
    with running([seat], EventLog(tmp_path / "events.jsonl")) as held:
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
        assert [process.pid for process in bearers(held.mark)] == [child.pid]
        child.kill()
        child.wait()


def test_a_record_without_a_pulse_is_of_a_hung_or_killed_role(seat: Seat, tmp_path: Path) -> None:
    with running([seat], EventLog(tmp_path / "events.jsonl")):
        os.utime(seat.record, (0, time.time() - 31))
        assert not has_pulse(seat.record)


def test_a_log_that_is_large_is_put_aside_once_and_a_follower_goes_on(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", most_bytes=1_000)
    follower, followed = Follower(tmp_path / "events.jsonl"), []
    for number in range(100):
        log.record("round", round=number)
        followed += follower.new()
    assert [event["round"] for event in followed] == list(range(100))
    kept = [event["round"] for event in log.events()]
    assert kept == list(range(kept[0], 100))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_300
    assert Follower(tmp_path / "events.jsonl").new() == []


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    follower = Follower(path)
    path.write_bytes(b'{"kind": "one"}\n{"kind": "t')
    assert [event["kind"] for event in follower.new()] == ["one"]
    with path.open("ab") as file:
        file.write(b'wo"}\n')
    assert [event["kind"] for event in follower.new()] == ["two"]


def test_an_event_says_how_much_it_matters_and_a_peers_words_stay_on_one_line(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    levels = [log.record(kind)["level"] for kind in ("round", "refused", "missing", "failed")]
    assert levels == ["info", "warning", "warning", "error"]
    said = details(log.record("refused", reason="a\nb \x1b[31m" + "c" * 500, scales={"x": 1}))
    assert said.startswith("reason='a?b ?[31mccc")
    assert said.endswith("""' scales='{"x": 1}'""")
    assert len(said) < 250
    assert details(log.record("started", roles=["agent", "courier"])) == "roles='agent, courier'"
    assert json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-2])["reason"].startswith("a\nb")


def test_the_coordinators_terminal_says_what_studies_write(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = EventLog(tmp_path / "s1" / "events.jsonl")
    (tmp_path / "s1").mkdir()
    old.record("round", round=1)
    voices = StudyVoices(tmp_path)
    old.record("refused", hospital="north", reason="no")
    (tmp_path / "s2").mkdir()
    EventLog(tmp_path / "s2" / "events.jsonl").record("round", round=1)
    with caplog.at_level("INFO"):
        voices.say_new()
        voices.say_new()
    assert [record.getMessage() for record in caplog.records] == [
        "study s1: refused hospital=north reason=no",
        "study s2: round round=1",
    ]
