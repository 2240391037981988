"""A tree that keeps what it has hashed: the same roots and proofs, and how many hashes they take."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol import merkle, merkle_tree
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.merkle_tree import GrowingTree
from sonoshare_shared.protocol.translog import TransparencyLog


@given(st.lists(st.binary(max_size=4), max_size=40), st.integers(0, 40))
def test_a_growing_tree_has_the_roots_and_proofs_of_its_leaves_however_it_grew(leaves: list[bytes], cut: int) -> None:
    tree = GrowingTree()
    tree.extend(leaves[:cut])
    tree.extend(leaves[cut:])
    assert len(tree) == len(leaves)
    for size in range(len(leaves) + 1):
        assert tree.root(size) == merkle.root(leaves[:size])
    for index in range(len(leaves)):
        assert tree.inclusion_proof(index) == merkle.inclusion_proof(leaves, index)
        assert tree.consistency_proof(index + 1) == merkle.consistency_proof(leaves, index + 1)


def test_what_is_not_in_a_growing_tree_is_an_error() -> None:
    tree = GrowingTree()
    tree.extend([b"one"])
    for asked in (lambda: tree.root(2), lambda: tree.inclusion_proof(1), lambda: tree.consistency_proof(2)):
        with pytest.raises(InputError):
            asked()


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many leaves and nodes were hashed."""
    counted = [0]

    def counting(function: Any) -> Any:
        def hashed(*arguments: bytes) -> bytes:
            counted[0] += 1
            digest: bytes = function(*arguments)
            return digest

        return hashed

    for module in (merkle, merkle_tree):
        for name in ("leaf_hash", "node_hash"):
            monkeypatch.setattr(module, name, counting(getattr(merkle, name)))
    return counted


def test_a_head_for_every_entry_of_a_log_takes_no_square_of_hashes(tmp_path: Path, hashes: list[int]) -> None:
    log = TransparencyLog(tmp_path / "log.jsonl", SigningKey.generate(), lambda: datetime.now(UTC))
    entries = 200
    for number in range(entries):
        log.append({"kind": "note", "number": number})
        log.head()
        log.root(number // 2)
        assert log.index_of({"kind": "note", "number": number}) == number
    assert hashes[0] <= entries * (2 + 2 * entries.bit_length())  # it was 2 entries² before
    before = hashes[0]
    log.inclusion_proof(entries // 3)
    log.consistency_proof(entries // 3)
    assert hashes[0] - before <= 2 * entries.bit_length() ** 2
