"""RFC 9162 tree: known answers, and every proof of every small tree."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol import merkle

# The eight leaves of the Certificate Transparency reference tests, and the roots of their prefixes.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize(("size", "expected"), ROOTS.items())
def test_roots_are_the_published_ones(size: Any, expected: Any) -> None:
    assert merkle.root(LEAVES[:size]).hex() == expected


@pytest.mark.parametrize("size", range(1, 20))
def test_every_inclusion_proof_verifies_and_no_other(size: Any) -> None:
    leaves = [bytes([i]) for i in range(size)]
    root = merkle.root(leaves)
    for index in range(size):
        proof = merkle.inclusion_proof(leaves, index)
        assert merkle.verify_inclusion(leaves[index], index, size, proof, root)
        assert not merkle.verify_inclusion(b"other", index, size, proof, root)
        assert not merkle.verify_inclusion(leaves[index], (index + 1) % size, size, proof, root) or size == 1
        assert not merkle.verify_inclusion(leaves[index], index, size, [*proof, root], root)
        if proof:
            assert not merkle.verify_inclusion(leaves[index], index, size, proof[:-1], root)


@pytest.mark.parametrize("size", range(1, 20))
def test_case_61_every_prefix_is_consistent_and_no_other_tree_is(size: Any) -> None:
    leaves = [bytes([i]) for i in range(size)]
    root = merkle.root(leaves)
    for first in range(1, size + 1):
        proof = merkle.consistency_proof(leaves, first)
        before = merkle.root(leaves[:first])
        assert merkle.verify_consistency(first, size, before, root, proof)
        forked = merkle.root([*leaves[: first - 1], b"forked"])
        assert not merkle.verify_consistency(first, size, forked, root, proof)


def test_asking_for_what_is_not_there_is_an_error() -> None:
    with pytest.raises(InputError):
        merkle.inclusion_proof(LEAVES, 8)
    with pytest.raises(InputError):
        merkle.consistency_proof(LEAVES, 9)


@given(st.lists(st.binary(max_size=4), max_size=70), st.data())
def test_a_frontier_has_the_root_of_all_its_leaves_however_it_grew(leaves: Any, data: Any) -> None:
    frontier, start = merkle.Frontier(), 0
    while start < len(leaves):
        end = data.draw(st.integers(start + 1, len(leaves)))
        frontier, start = frontier.extended(leaves[start:end]), end
        assert frontier.root() == merkle.root(leaves[:end])
        assert len(frontier.peaks) == end.bit_count()
    assert frontier.size == len(leaves)
    assert frontier.root() == merkle.root(leaves)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40), st.data())
def test_case_61_a_frontier_of_other_leaves_has_another_root(leaves: Any, data: Any) -> None:
    place = data.draw(st.integers(0, len(leaves) - 1))
    forked = [*leaves[:place], leaves[place] + b"x", *leaves[place + 1 :]]
    assert merkle.Frontier().extended(forked).root() != merkle.root(leaves)
    assert merkle.Frontier().extended(leaves[:place]).root() != merkle.root(leaves)
