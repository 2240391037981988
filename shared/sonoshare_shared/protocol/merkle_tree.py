"""A Merkle tree of RFC 9162 that keeps what it has hashed, for whoever holds a whole log and asks it often.

    tree = GrowingTree()
    tree.extend(leaves)
    tree.root(1000)          # of the first 1000 leaves, whatever came after them

Promises: roots and proofs are those of ``merkle`` over the same leaves. A leaf costs two hashes in all, when it comes;
a root or a proof costs as many hashes as the tree is high (``merkle``'s functions hash every leaf anew each time, so a
log that signs a head after each entry would take the square of its entries).
Not promised: small memory. Some 130 bytes a leaf are kept; who needs only the newest root keeps a ``merkle.Frontier``.
"""

from collections.abc import Iterable

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.merkle import leaf_hash, node_hash, root, split


class GrowingTree:
    """A tree that grows at its right end and forgets nothing."""

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]
        """By height: roots of the perfect subtrees of so many leaves that are full, from left to right."""

    def __len__(self) -> int:
        return len(self._levels[0])

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves."""
        for leaf in leaves:
            digest, height = leaf_hash(leaf), 0
            self._levels[0].append(digest)
            while len(self._levels[height]) % 2 == 0:
                digest = node_hash(self._levels[height][-2], digest)
                height += 1
                if height == len(self._levels):
                    self._levels.append([])
                self._levels[height].append(digest)

    def root(self, size: int) -> bytes:
        """Root of the first ``size`` leaves.

        Raises:
            InputError: there are not so many.
        """
        if not 0 <= size <= len(self):
            raise InputError(f"no tree of {size} entries in a log of {len(self)}")
        return self._root(0, size) if size else root([])

    def inclusion_proof(self, index: int) -> list[bytes]:
        """As ``merkle.inclusion_proof`` over all leaves.

        Raises:
            InputError: there is no such leaf.
        """
        if not 0 <= index < len(self):
            raise InputError(f"log has no entry {index}")
        return self._path(index, 0, len(self))

    def consistency_proof(self, first: int) -> list[bytes]:
        """As ``merkle.consistency_proof`` over all leaves.

        Raises:
            InputError: there are not so many leaves.
        """
        if not 0 < first <= len(self):
            raise InputError(f"no tree of {first} entries in a log of {len(self)}")
        return self._subproof(first, 0, len(self), complete=True)

    def _root(self, start: int, end: int) -> bytes:
        """Root over leaves ``start`` to ``end``: a range that the tree's own splits make, so it begins a subtree."""
        count = end - start
        if count & (count - 1) == 0:
            height = count.bit_length() - 1
            return self._levels[height][start >> height]
        middle = start + split(count)
        return node_hash(self._root(start, middle), self._root(middle, end))

    def _path(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + split(end - start)
        if index < middle:
            return [*self._path(index, start, middle), self._root(middle, end)]
        return [*self._path(index, middle, end), self._root(start, middle)]

    def _subproof(self, first: int, start: int, end: int, *, complete: bool) -> list[bytes]:
        if first == end:
            return [] if complete else [self._root(start, end)]
        middle = start + split(end - start)
        if first <= middle:
            return [*self._subproof(first, start, middle, complete=complete), self._root(middle, end)]
        return [*self._subproof(first, middle, end, complete=False), self._root(start, middle)]
