"""The transparency log: durable, append-only, and every head an extension of the one before."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sonoshare_shared.errors import IntegrityError, VerificationError
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import plan_entry
from sonoshare_shared.protocol.translog import TransparencyLog, require_extension, verified_head

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def opened(tmp_path: Path, key: SigningKey) -> TransparencyLog:
    return TransparencyLog(tmp_path / "log.jsonl", key, lambda: NOW)


def test_entries_survive_reopening_and_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    key = SigningKey.generate()
    log = opened(tmp_path, key)
    for number in range(3):
        assert log.append(plan_entry(f"s{number}", str(number))) == number
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"kind": "pla')
    again = opened(tmp_path, key)
    assert again.entries == log.entries
    assert again.append(plan_entry("s3", "3")) == 3
    assert len(opened(tmp_path, key)) == 4


def test_case_61_heads_extend_each_other_and_a_fork_is_noticed(tmp_path: Path) -> None:
    key = SigningKey.generate()
    log = opened(tmp_path, key)
    log.append(plan_entry("a", "a"))
    old = verified_head(log.head(), key.public)
    log.append(plan_entry("b", "b"))
    new = verified_head(log.head(), key.public)
    require_extension(old, new, log.consistency_proof(1))
    forked = TransparencyLog(tmp_path / "fork.jsonl", key, lambda: NOW)
    forked.append(plan_entry("a", "other"))
    forked.append(plan_entry("b", "b"))
    with pytest.raises(IntegrityError):
        require_extension(old, verified_head(forked.head(), key.public), forked.consistency_proof(1))
    with pytest.raises(IntegrityError):
        require_extension(new, old, [])


def test_a_head_of_another_key_is_refused(tmp_path: Path) -> None:
    log = opened(tmp_path, SigningKey.generate())
    with pytest.raises(VerificationError):
        verified_head(log.head(), SigningKey.generate().public)


def test_a_reader_changes_nothing_and_a_second_writer_is_refused(tmp_path: Path) -> None:
    key = SigningKey.generate()
    log = opened(tmp_path, key)
    log.append(plan_entry("a", "a"))
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"under": "wa')
    before = (tmp_path / "log.jsonl").read_bytes()
    assert len(opened(tmp_path, key)) == 1
    assert (tmp_path / "log.jsonl").read_bytes() == before
    late = opened(tmp_path, key)
    log.append(plan_entry("b", "b"))
    with pytest.raises(IntegrityError):
        late.append(plan_entry("c", "c"))
    assert len(opened(tmp_path, key)) == 2
