"""The hospital's own copy of the log: it only grows, it survives kills, and what does not fit is refused or proved."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from tests.log_parts import STUDY, Keys, lines

from sonoshare_client.node import log_copy
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.node.paths import StatePaths
from sonoshare_shared.errors import InputError, IntegrityError, MisconductError, VerificationError, WitnessError
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.documents import LogHead
from sonoshare_shared.protocol.documents.view import LogPart
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import candidate_entry, ledger_head_entry, model_entry, plan_entry
from sonoshare_shared.protocol.misconduct import verify_evidence


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def copy(tmp_path: Path, keys: Keys) -> LogCopy:
    """A copy of the first two entries of a study."""
    held = LogCopy.open(tmp_path)
    held.extend(keys.part(STUDY[:2]), keys.coordinator.public)
    return held


def extend(copy: LogCopy, keys: Keys, part: LogPart) -> None:
    copy.extend(part, keys.coordinator.public)


def proved(keys: Keys, error: Any) -> tuple[str, str]:
    return verify_evidence(error.value.evidence, keys.roster)


def test_the_copy_grows_by_parts_and_is_the_same_after_a_restart(tmp_path: Path, copy: LogCopy, keys: Keys) -> None:
    extend(copy, keys, keys.part(STUDY, first=2))
    again = LogCopy.open(tmp_path)
    assert again.entries == copy.entries == tuple(STUDY)
    assert again.head == copy.head
    assert again.require_entry(model_entry("s", 2, "2" * 64)) == 2
    assert [again.root_at(n) for n in range(4)] == [merkle.root(STUDY[:n]) for n in range(4)]


def test_a_part_that_overlaps_or_brings_nothing_new_is_taken(copy: LogCopy, keys: Keys) -> None:
    extend(copy, keys, keys.part(STUDY))
    extend(copy, keys, keys.part(STUDY, first=3))
    extend(copy, keys, keys.part(STUDY[:1]))
    assert copy.size == 3


@pytest.mark.parametrize("killed", ["append_at", "write_atomically"])
def test_a_full_disk_or_a_kill_within_the_two_writes_loses_nothing(
    tmp_path: Path, copy: LogCopy, keys: Keys, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    def full(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log_copy, killed, full)
        with pytest.raises(OSError, match="No space"):
            extend(copy, keys, keys.part(STUDY, first=2))
    for held in (copy, LogCopy.open(tmp_path)):
        assert held.size == 2
    again = LogCopy.open(tmp_path)
    extend(again, keys, keys.part(STUDY, first=2))
    assert LogCopy.open(tmp_path).entries == tuple(STUDY)


def test_a_damaged_copy_is_refused_and_never_made_anew(tmp_path: Path, copy: LogCopy) -> None:
    for damage in (lambda data: data[: len(data) // 2], lambda data: data.replace(b"1111", b"1112", 1)):
        path = StatePaths(tmp_path).log_path
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        with pytest.raises(IntegrityError, match="damaged"):
            LogCopy.open(tmp_path)
        path.write_bytes(whole)
    assert LogCopy.open(tmp_path).size == 2


def test_truncated_entries_or_too_many_are_refused(copy: LogCopy, keys: Keys) -> None:
    whole = keys.part(STUDY, first=2)
    for shown in ((), (*whole.entries, STUDY[0].decode())):
        with pytest.raises(IntegrityError, match="as long as"):
            extend(copy, keys, whole.model_copy(update={"entries": shown}))
    with pytest.raises(WitnessError, match="begins at entry 5"):
        extend(copy, keys, keys.part(STUDY, first=2).model_copy(update={"first": 5}))
    assert copy.size == 2


def test_a_list_of_entries_without_end_is_refused_before_anything_is_written(
    keys: Keys, copy: LogCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="at most 2000"):
        keys.part([*STUDY, *lines(*({"kind": "note", "n": n} for n in range(2000)))])
    with pytest.raises(ValueError, match="at most 16384"):
        keys.part([*STUDY, *lines({"kind": "note", "words": "x" * 17_000})])
    monkeypatch.setattr(log_copy, "MAX_LOG_BYTES", 300)
    with pytest.raises(InputError, match="too long"):
        extend(copy, keys, keys.part(STUDY, first=2))


@pytest.mark.parametrize(
    "line", [b'{"b":1, "a":2}', b'{"a":1,"a":2}', b"[]", b"nonsense", b'{"a":1}\n{"b":2}', b"[" * 9000]
)
def test_an_entry_that_is_not_canonical_is_refused(copy: LogCopy, keys: Keys, line: bytes) -> None:
    with pytest.raises(IntegrityError, match="canonical"):
        extend(copy, keys, keys.part([*STUDY[:2], line], first=2))
    assert copy.size == 2


def test_a_head_of_another_key_or_with_a_false_root_is_refused(copy: LogCopy, keys: Keys) -> None:
    with pytest.raises(VerificationError):
        extend(copy, keys, keys.part(STUDY, first=2, head=keys.head(STUDY, SigningKey.generate())))
    with pytest.raises(IntegrityError, match="extension") as refused:
        extend(copy, keys, keys.part(STUDY, first=2, head=keys.head(STUDY, root="0" * 64)))
    # A head alone over entries that nobody knows proves nothing.
    assert not isinstance(refused.value, MisconductError)


def test_another_log_of_the_same_size_is_evidence(copy: LogCopy, keys: Keys) -> None:
    forked = lines(plan_entry("s", "0" * 64), model_entry("s", 1, "f" * 64))
    with pytest.raises(MisconductError, match="two different logs") as refused:
        extend(copy, keys, keys.part(forked, first=2))
    assert proved(keys, refused) == ("coordinator", "signed two different logs of 2 entries")


@pytest.mark.parametrize("size", [1, 3])
def test_another_log_shown_whole_is_evidence_whatever_its_size(copy: LogCopy, keys: Keys, size: int) -> None:
    forked = lines(*(plan_entry(f"other-{n}", "f" * 64) for n in range(size)))
    with pytest.raises(MisconductError) as refused:
        extend(copy, keys, keys.part(forked))
    assert proved(keys, refused)[0] == "coordinator"
    assert copy.size == 2


def test_two_models_for_one_round_are_evidence_and_the_round_stays_spoilt(
    tmp_path: Path, copy: LogCopy, keys: Keys
) -> None:
    other = model_entry("s", 1, "f" * 64)
    twice = [*STUDY[:2], *lines(other)]
    with pytest.raises(MisconductError, match="two different entries for one model") as refused:
        extend(copy, keys, keys.part(twice, first=2))
    assert proved(keys, refused) == (
        "coordinator",
        "signed a log with two different entries for one model (entry 2)",
    )
    for held in (copy, LogCopy.open(tmp_path)):
        for entry in (other, model_entry("s", 1, "1" * 64)):
            with pytest.raises(IntegrityError, match="does not show"):
                held.require_entry(entry)
    # A person has looked at the evidence: the log goes on, its other entries are as good as before.
    extend(copy, keys, keys.part([*twice, STUDY[2]], first=3))
    assert copy.require_entry(model_entry("s", 2, "2" * 64)) == 3


@pytest.mark.parametrize(
    "pair",
    [
        (plan_entry("s2", "1" * 64), plan_entry("s2", "2" * 64)),
        (candidate_entry("s", "r", "1" * 64), candidate_entry("s", "r", "2" * 64)),
        (model_entry("s2", 7, "1" * 64), {**model_entry("s2", 7, "1" * 64), "and": "more"}),
    ],
)
def test_nothing_that_may_stand_once_stands_twice(
    copy: LogCopy, keys: Keys, pair: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    with pytest.raises(MisconductError):
        extend(copy, keys, keys.part([*STUDY[:2], *lines(*pair)], first=2))


def test_the_same_entry_twice_is_no_fault(copy: LogCopy, keys: Keys) -> None:
    extend(copy, keys, keys.part([*STUDY, STUDY[1]], first=2))
    assert copy.require_entry(model_entry("s", 1, "1" * 64)) == 1


def test_a_ledger_head_that_its_hospital_never_signed_is_evidence(copy: LogCopy, keys: Keys) -> None:
    head, _ = keys.ledger_head("a", 9)
    _, by_another = keys.ledger_head("a", 9, key=SigningKey.generate())
    false = ledger_head_entry(head, by_another)
    with pytest.raises(MisconductError, match="did not sign") as refused:
        extend(copy, keys, keys.part([*STUDY[:2], *lines(false)], first=2))
    assert proved(keys, refused)[0] == "coordinator"
    assert copy.index.heads(keys.hospitals["a"].public) == ()


def test_the_first_log_shown_extends_what_a_node_of_the_first_version_had_seen(tmp_path: Path, keys: Keys) -> None:
    seen = LogHead.from_bytes(
        json.dumps(
            {
                "schema": "sonoshare/log-head/v1",
                "size": 2,
                "root": merkle.root(STUDY[:2]).hex(),
                "time": "2026-01-02T00:00:00Z",
            }
        ).encode()
    )
    StatePaths(tmp_path).log_head_alone_path.write_bytes(seen.canonical())
    for other in (STUDY[:1], [STUDY[1], STUDY[0], STUDY[2]]):
        with pytest.raises(IntegrityError, match="extension"):
            extend(LogCopy.open(tmp_path), keys, keys.part(other))
    copy = LogCopy.open(tmp_path)
    extend(copy, keys, keys.part(STUDY))
    assert LogCopy.open(tmp_path).size == 3
    assert StatePaths(tmp_path).log_head_path.exists()
