"""The transparency log: durable, append-only, and every head an extension of the one before."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sonoshare_shared.errors import InputError, IntegrityError, VerificationError
from sonoshare_shared.protocol.canonical import canonical_bytes
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


def test_a_reader_changes_nothing_and_a_second_writer_takes_up_what_the_first_appended(tmp_path: Path) -> None:
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
    assert late.append(plan_entry("c", "c")) == 2
    with pytest.raises(InputError, match="another plan"):
        log.append(plan_entry("c", "other"))
    assert log.entries == late.entries == opened(tmp_path, key).entries
    assert log.root(3) == late.root(3) == opened(tmp_path, key).root(3)


def test_many_writers_at_once_lose_nothing_and_say_where_each_entry_stands(tmp_path: Path) -> None:
    key = SigningKey.generate()

    def write(writer: int) -> list[tuple[int, bytes]]:
        log = opened(tmp_path, key)
        entries = [plan_entry(f"w{writer}-{number}", "d") for number in range(10)]
        return [(log.append(entry), canonical_bytes(entry)) for entry in entries]

    with ThreadPoolExecutor(4) as pool:
        written = [one for several in pool.map(write, range(4)) for one in several]
    entries = opened(tmp_path, key).entries
    assert len(entries) == 40
    assert all(entries[index] == line for index, line in written)


def test_a_log_in_whose_place_an_older_one_was_put_is_not_appended_to(tmp_path: Path) -> None:
    key = SigningKey.generate()
    log = opened(tmp_path, key)
    log.append(plan_entry("a", "a"))
    older = (tmp_path / "log.jsonl").read_bytes()
    log.append(plan_entry("b", "b"))
    (tmp_path / "log.jsonl").write_bytes(older)
    with pytest.raises(IntegrityError, match="shorter"):
        log.append(plan_entry("c", "c"))
    assert (tmp_path / "log.jsonl").read_bytes() == older
