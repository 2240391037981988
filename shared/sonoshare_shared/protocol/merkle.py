"""The Merkle tree of RFC 9162 (Certificate Transparency 2.0), over sha256.

Leaves are byte strings; a leaf hash is ``sha256(0x00 || leaf)`` and a node hash ``sha256(0x01 || left || right)``,
so that a leaf can never pass for a node. Inclusion proofs show that an entry is in a tree of a given size;
consistency proofs show that a smaller tree is a prefix of a larger one (nothing was removed or rewritten).

Functions over lists of leaves hash every leaf each time: for somebody who asks once. A ``Frontier`` grows leaf by leaf
and keeps only the roots of its whole subtrees, at most one of each height; ``merkle_tree`` keeps every subtree's.
Source: RFC 9162, sections 2.1.1-2.1.5.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sonoshare_shared.errors import InputError


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of a node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(size: int) -> int:
    """Largest power of two smaller than ``size`` (size >= 2)."""
    return 1 << (size - 1).bit_length() - 1


def _root(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    k = split(len(hashes))
    return node_hash(_root(hashes[:k]), _root(hashes[k:]))


def root(leaves: Sequence[bytes]) -> bytes:
    """Root of the tree over ``leaves`` (the empty tree has the hash of nothing)."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    return _root([leaf_hash(leaf) for leaf in leaves])


@dataclass(frozen=True)
class Frontier:
    """The right edge of a growing tree: all that is needed to add leaves and to know the root.

    Attributes:
        size: number of leaves.
        peaks: roots of the perfect subtrees that the leaves fill, largest first: one for each bit set in ``size``.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def extended(self, leaves: Iterable[bytes]) -> "Frontier":
        """The frontier after more leaves."""
        size, peaks = self.size, list(self.peaks)
        for leaf in leaves:
            digest, full = leaf_hash(leaf), size
            while full & 1:
                digest, full = node_hash(peaks.pop(), digest), full >> 1
            peaks.append(digest)
            size += 1
        return Frontier(size, tuple(peaks))

    def root(self) -> bytes:
        """Root of the tree, the same as ``root`` over all leaves."""
        if not self.peaks:
            return root([])
        digest = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            digest = node_hash(peak, digest)
        return digest


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Audit path of leaf ``index``, from the leaf upwards."""
    if not 0 <= index < len(leaves):
        raise InputError(f"log has no entry {index}")
    return _path(index, [leaf_hash(leaf) for leaf in leaves])


def _path(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    if len(hashes) == 1:
        return []
    k = split(len(hashes))
    if index < k:
        return [*_path(index, hashes[:k]), _root(hashes[k:])]
    return [*_path(index - k, hashes[k:]), _root(hashes[:k])]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes) -> bool:
    """Whether ``leaf`` is entry ``index`` of the tree of ``size`` entries with this root (section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, digest = index, size - 1, leaf_hash(leaf)
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            digest = node_hash(sibling, digest)
            while position & 1 == 0 and position != 0:
                position, last = position >> 1, last >> 1
        else:
            digest = node_hash(digest, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and digest == expected_root


def consistency_proof(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """Proof that the tree of the first ``first`` leaves is a prefix of the tree of all of them."""
    if not 0 < first <= len(leaves):
        raise InputError(f"no tree of {first} entries in a log of {len(leaves)}")
    return _subproof(first, [leaf_hash(leaf) for leaf in leaves], complete=True)


def _subproof(first: int, hashes: Sequence[bytes], *, complete: bool) -> list[bytes]:
    if first == len(hashes):
        return [] if complete else [_root(hashes)]
    k = split(len(hashes))
    if first <= k:
        return [*_subproof(first, hashes[:k], complete=complete), _root(hashes[k:])]
    return [*_subproof(first - k, hashes[k:], complete=False), _root(hashes[:k])]


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of ``first`` entries is a prefix of the tree of ``second`` (section 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        return False
    position, last = first - 1, second - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while position & 1 == 0 and position != 0:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root
