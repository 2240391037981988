"""Who took part in a study, as the log says it; and what happens where it says it twice, or not at all."""

from typing import Any

import pytest
from tests.log_parts import Keys, lines

from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.closed_rounds import ClosedRound, closed_rounds, require_closed_with, took_part
from sonoshare_shared.protocol.log_index import LogIndex
from sonoshare_shared.protocol.misconduct import faulty_log, verify_evidence
from sonoshare_shared.protocol.translog import TransparencyLog


def closed(number: int, *hospitals: str, adapter: str = "a" * 64, study: str = "s") -> dict[str, Any]:
    return ClosedRound(study=study, round=number, hospitals=hospitals, adapter=adapter).entry


def index_of(*entries: dict[str, Any]) -> LogIndex:
    index = LogIndex()
    for line in lines(*entries):
        index.add(line)
    return index


def test_who_took_part_is_who_is_named_in_any_round_of_the_study() -> None:
    index = index_of(closed(1, "north", "west"), closed(1, "east", study="t"), closed(2, "north", "south"))
    assert took_part(index, "s", 2) == ("north", "south", "west")
    assert took_part(index, "t", 1) == ("east",)


def test_a_log_that_does_not_close_every_round_says_nothing_of_who_took_part() -> None:
    index = index_of(closed(2, "north"))
    assert took_part(index, "s", 2) is None
    assert took_part(index, "s", 1) is None
    assert took_part(LogIndex(), "s", 1) is None


def test_a_void_round_names_nobody_and_a_study_of_void_rounds_says_nothing() -> None:
    assert took_part(index_of(closed(1), closed(2, "north")), "s", 2) == ("north",)
    assert took_part(index_of(closed(1), closed(2)), "s", 2) is None


def test_a_round_closed_twice_is_evidence_and_the_same_entry_twice_is_none() -> None:
    keys = Keys()
    entries = lines(closed(1, "a"), closed(1, "a"), closed(1, "a", "b"))
    index = LogIndex()
    assert [index.add(line) is None for line in entries] == [True, True, False]
    with pytest.raises(IntegrityError, match="in two ways"):
        took_part(index, "s", 1)
    fault = LogIndex()
    faults = [found for found in map(fault.add, entries) if found is not None]
    evidence = faulty_log(faults[0], keys.head(entries), tuple(entries))
    against, words = verify_evidence(evidence.canonical(), keys.roster)
    assert against == "coordinator"
    assert "two different entries for one closed-round" in words


def test_a_coordinator_cannot_close_a_round_twice(tmp_path: Any) -> None:
    log = TransparencyLog(tmp_path / "log.jsonl", Keys().coordinator, lambda: pytest.fail("no head is asked for"))
    log.append(closed(1, "a"))
    with pytest.raises(InputError, match="another closed-round"):
        log.append(closed(1, "b"))


@pytest.mark.parametrize("written", ["1", True])
def test_a_round_is_not_closed_a_second_time_by_writing_its_number_in_another_way(written: Any) -> None:
    """The log keeps one entry for a round as it is written; a second reading would let the later one count."""
    index = index_of(closed(1, "a", "b"), closed(1, "a") | {"round": written})
    with pytest.raises(IntegrityError, match="does not say who took part"):
        took_part(index, "s", 1)


@pytest.mark.parametrize(
    "change",
    [
        {"hospitals": ["b", "a"]},
        {"hospitals": ["a", "a"]},
        {"hospitals": "a"},
        {"round": 0},
        {"round": "1"},
        {"round": True},
        {"sum": None},
        {"adapter": "no digest"},
        {"also": 1},
    ],
)
def test_an_entry_that_does_not_say_who_took_part_is_refused(change: dict[str, Any]) -> None:
    index = index_of(closed(1, "a", "b") | change)
    with pytest.raises(IntegrityError, match="does not say who took part"):
        closed_rounds(index, "s")


def test_the_next_model_is_the_one_that_the_round_was_closed_with() -> None:
    index = index_of(closed(1, "a", adapter="1" * 64))
    require_closed_with(index, "s", 1, "1" * 64)
    require_closed_with(index, "s", 2, "2" * 64)
    with pytest.raises(IntegrityError, match="closed round 1 of s with another model"):
        require_closed_with(index, "s", 1, "2" * 64)
