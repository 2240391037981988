"""While votes, audits and signatures are waited for, a command says who has answered, and after how long."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sonoshare_deploy.cli.action_words import ActionWords
from sonoshare_shared.events import EventLog

START = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)


class Passing:
    """A clock for events and for the command."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def event(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1000 + self.seconds


def test_votes_and_audits_are_told_hospital_by_hospital(tmp_path: Path) -> None:
    clock, shown, said = Passing(), list[str](), list[str]()
    log = EventLog(tmp_path / "events.jsonl", clock.event)
    words = ActionWords(tmp_path / "events.jsonl", "release r1", shown.append, said.append, clock.monotonic)
    log.record("started", action="calibrate", release="r1")
    log.record("waiting", awaited=["north", "south"])
    words()
    assert shown == ["release r1; votes on phantoms, 0 s; waiting for north, south (since 09:00 UTC)"]
    clock.seconds = 20
    words()
    assert shown[-1] == "release r1; votes on phantoms, 20 s; waiting for north, south (since 09:00 UTC)"
    log.record("voted", hospital="south", epsilon=1.0)
    clock.seconds = 21
    words()
    assert (
        shown[-1]
        == "release r1; votes on phantoms, 21 s; south has voted after 20 s; waiting for north (since 09:00 UTC)"
    )
    log.record("voted", hospital="north", epsilon=1.0)
    log.record("done", action="calibrate")
    log.record("started", action="audit", release="r1")
    words()
    clock.seconds = 50.4
    log.record("audited", hospital="north", release="r1", verdict="FAIL")
    words()
    assert shown[-1] == "release r1; audits, 29 s; north has audited: FAIL after 29 s"
    assert said == ["south has voted after 20 s", "north has voted after 21 s", "north has audited: FAIL after 29 s"]


def test_a_command_that_joins_late_says_no_time_that_it_does_not_know(tmp_path: Path) -> None:
    clock, said = Passing(), list[str]()
    log = EventLog(tmp_path / "events.jsonl", clock.event)
    log.record("started", action="audit", release="r1")
    words = ActionWords(tmp_path / "events.jsonl", "release r1", say=said.append, clock=clock.monotonic)
    log.record("audited", hospital="north", release="r1", verdict="PASS")
    words()
    assert said == ["north has audited: PASS"]


def test_a_candidate_on_its_way_is_told_in_per_cent_until_it_is_there(tmp_path: Path) -> None:
    clock, shown = Passing(), list[str]()
    log = EventLog(tmp_path / "events.jsonl", clock.event)
    words = ActionWords(tmp_path / "events.jsonl", "release r1", shown.append, clock=clock.monotonic)
    log.record("started", action="audit", release="r1")
    log.record("waiting", awaited=["north"])
    for percent in (5, 45, 100):
        log.record("sending", release="r1", percent=percent)
        words()
    assert shown == [
        "release r1; audits, 0 s; 5 % of the candidate sent; waiting for north (since 09:00 UTC)",
        "release r1; audits, 0 s; 45 % of the candidate sent; waiting for north (since 09:00 UTC)",
        "release r1; audits, 0 s; waiting for north (since 09:00 UTC)",
    ]


def test_nothing_new_is_not_shown_again(tmp_path: Path) -> None:
    clock, shown = Passing(), list[str]()
    log = EventLog(tmp_path / "events.jsonl", clock.event)
    words = ActionWords(tmp_path / "events.jsonl", "study s1: training", shown.append, clock=clock.monotonic)
    log.record("started", action="train", release="")
    log.record("waiting", awaited=["north"])
    for _ in range(3):
        words()
    assert shown == ["study s1: training; waiting for north (since 09:00 UTC)"]


def test_what_is_awaited_is_told_since_when_and_how_long_it_took_the_last_time(tmp_path: Path) -> None:
    clock, shown = Passing(), list[str]()
    log = EventLog(tmp_path / "events.jsonl", clock.event)
    log.record("started", action="audit", release="r1")
    clock.seconds = 174
    log.record("done", action="audit")
    clock.seconds = 3600
    words = ActionWords(tmp_path / "events.jsonl", "release r2", shown.append, clock=clock.monotonic)
    log.record("started", action="audit", release="r2")
    log.record("waiting", awaited=["north"])
    words()
    assert shown == ["release r2; audits, 0 s; waiting for north (since 10:00 UTC, the last audits took 174 s)"]


def test_a_round_is_told_with_its_number_and_how_long_the_last_one_took(tmp_path: Path) -> None:
    clock, shown = Passing(), list[str]()
    log = EventLog(tmp_path / "events.jsonl", clock.event)
    words = ActionWords(tmp_path / "events.jsonl", "study s", shown.append, clock=clock.monotonic)
    log.record("started", action="train", release="")
    log.record("round", round=1, rounds=3)
    log.record("waiting", awaited=["north"])
    words()
    assert shown[-1] == "study s; round 1 of 3, 0 s; waiting for north (since 09:00 UTC)"
    clock.seconds = 45
    log.record("aggregated", round=1, hospitals=["north"], left_out=[])
    log.record("round", round=2, rounds=3)
    log.record("waiting", awaited=["north"])
    words()
    assert shown[-1] == "study s; round 2 of 3, 0 s; waiting for north (since 09:00 UTC, the last round took 45 s)"
