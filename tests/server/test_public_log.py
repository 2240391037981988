"""The log as it is served: what a proof costs in a log of many entries, and that nobody is shown an old one."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sonoshare_server.catalogue.public_log import ExportedLog, OwnLog, PublicLog
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol import merkle, merkle_tree
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.release import evidence
from sonoshare_shared.protocol.translog import TransparencyLog, verified_head

KEY = SigningKey.generate()
MANY = 3000
Served = tuple[PublicLog, Callable[[int], None], list[bytes]]


def now() -> datetime:
    return datetime.now(UTC)


def lines(first: int, end: int) -> list[bytes]:
    return [canonical_bytes({"kind": "note", "number": number}) for number in range(first, end)]


@pytest.fixture(params=["own", "exported"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Served:
    """A log of many entries, how to make it grow, and its entries."""
    path, exported = tmp_path / "log.jsonl", tmp_path / "log.json"
    known: list[bytes] = []

    def grow(count: int) -> None:
        more = lines(len(known), len(known) + count)
        known.extend(more)
        with path.open("ab") as file:
            file.writelines(line + b"\n" for line in more)
        exported.write_bytes(evidence.view(TransparencyLog(path, KEY, now)).canonical())

    grow(MANY)
    return (OwnLog(path, KEY, now) if request.param == "own" else ExportedLog(exported)), grow, known


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted = [0]

    def counting(function: Callable[..., bytes]) -> Callable[..., bytes]:
        def hashed(*arguments: bytes) -> bytes:
            counted[0] += 1
            return function(*arguments)

        return hashed

    for module in (merkle, merkle_tree):
        for name in ("leaf_hash", "node_hash"):
            monkeypatch.setattr(module, name, counting(getattr(merkle, name)))
    return counted


def require_proofs(log: PublicLog, known: list[bytes], index: int) -> None:
    proof = log.inclusion(index)
    head = verified_head(proof.head, KEY.public)
    assert head.size == len(known)
    path = [bytes.fromhex(node) for node in proof.proof]
    assert merkle.verify_inclusion(known[index], index, head.size, path, bytes.fromhex(head.root))
    nodes, signed = log.consistency(index + 1)
    head = verified_head(signed, KEY.public)
    old = merkle.Frontier().extended(known[: index + 1]).root()
    path = [bytes.fromhex(node) for node in nodes]
    assert merkle.verify_consistency(index + 1, head.size, old, bytes.fromhex(head.root), path)


def test_a_proof_costs_the_height_of_the_tree(served: Served, hashes: list[int]) -> None:
    log, grow, known = served
    require_proofs(log, known, 0)
    before = hashes[0]
    log.inclusion(MANY // 3)
    log.consistency(MANY // 3)
    assert log.index_of({"kind": "note", "number": MANY // 2}) == MANY // 2
    assert hashes[0] - before <= 4 * MANY.bit_length() ** 2  # it was 6 * MANY
    grow(3)
    before = hashes[0]
    log.head()
    if isinstance(log, OwnLog):
        assert hashes[0] - before <= 3 * 2 + 2 * MANY.bit_length()


def test_what_was_appended_is_seen_by_the_next_who_asks(served: Served) -> None:
    log, grow, known = served
    assert log.page(MANY - 2, 10).entries == [line.decode() for line in known[-2:]]
    grow(1)
    require_proofs(log, known, MANY)
    assert log.page(MANY, 10).following is None
    assert log.page(MANY - 1, 1).following == MANY
    assert [entry.encode() for entry in log.view().entries] == known
    for absent in (lambda: log.inclusion(MANY + 1), lambda: log.consistency(MANY + 2)):
        with pytest.raises(InputError):
            absent()


def test_a_log_that_was_brought_back_or_put_in_the_place_is_read_anew(served: Served) -> None:
    log, _, known = served
    log.head()
    path: Path = log._path  # type: ignore[attr-defined]
    other = lines(7, 7 + MANY + 5)
    if isinstance(log, OwnLog):
        content = b"".join(line + b"\n" for line in other)
    else:
        (path.parent / "other").write_bytes(b"".join(line + b"\n" for line in other))
        content = evidence.view(TransparencyLog(path.parent / "other", KEY, now)).canonical()
    time.sleep(0.01)  # another time of change, on file systems that count coarsely
    path.write_bytes(content)  # in place: the same inode
    require_proofs(log, other, 3)
    assert log.index_of({"kind": "note", "number": 0}) is None
    del known


def test_an_entry_that_is_being_written_is_not_served(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = OwnLog(path, KEY, now)
    assert log.page(0, 10).size == 0  # there is no file yet
    one, two = lines(0, 2)
    path.write_bytes(one + b"\n" + two[:5])
    assert log.page(0, 10).entries == [one.decode()]
    path.write_bytes(one + b"\n" + two + b"\n")
    assert log.page(0, 10).size == 2
    os.truncate(path, len(one) + 1)
    assert log.page(0, 10).size == 1


def test_revocations_are_found_among_the_others(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    entries: list[dict[str, Any]] = [{"kind": "note"}, {"kind": "revocation", "release": "a"}, {"kind": "note", "n": 1}]
    path.write_bytes(b"".join(canonical_bytes(entry) + b"\n" for entry in entries))
    assert [place for place, _ in OwnLog(path, KEY, now).revocations()] == [1]


def test_a_file_that_is_no_log_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text("{}")
    with pytest.raises(IntegrityError):
        ExportedLog(tmp_path / "log.json")
