"""The transparency log: an append-only RFC 9162 tree in one file, with signed heads.

Each entry is one line of canonical JSON ``{"kind": ..., ...}``: plans, model digests of each round, candidates,
manifests, ledger heads of the hospitals, releases and revocations. The coordinator signs heads; hospitals hold a whole
copy and refuse a log that is not an extension of it. An append is durable (fsync) before its index is returned, and an
entry that would contradict one before it (``log_index``) is never appended. Opening only reads: a torn last line (a
crash in the middle of a write, or a write under way) is passed over, and cut off by the next append. Several processes
may have the log open: each append takes the lock beside the file, takes up what the others have appended, and only then
decides. What the others append later is not seen until ``catch_up`` or the next append.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final

from sonoshare_shared.durable import append_at, create
from sonoshare_shared.errors import FederationError, InputError, IntegrityError
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.base import public_day
from sonoshare_shared.protocol.documents.release import LOG_HEAD_PAYLOAD_TYPE, LogHead
from sonoshare_shared.protocol.documents.view import MAX_ENTRY_CHARACTERS, MAX_PART_ENTRIES, LogPart
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey
from sonoshare_shared.protocol.log_index import Entry, LogIndex
from sonoshare_shared.protocol.merkle_tree import GrowingTree
from sonoshare_shared.protocol.signed import Signed

APPEND_SECONDS: Final = 30.0
"""For so long other processes' appends are waited for; one takes milliseconds."""


class TransparencyLog:
    """A log in one file.

    Args:
        path: the file; made when absent.
        key: the coordinator's key, which signs heads.
        clock: gives the time of a head.
    """

    def __init__(self, path: Path, key: SigningKey, clock: Callable[[], datetime]) -> None:
        self._path, self._key, self._clock = path, key, clock
        self._entries, self._length = read_entries(path)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[bytes, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    @cached_property
    def index(self) -> LogIndex:
        """What the entries say; kept up with every append."""
        index = LogIndex()
        for line in self._entries:
            index.add(line)
        return index

    @cached_property
    def _tree(self) -> GrowingTree:
        """The entries' tree; kept up with every append."""
        tree = GrowingTree()
        tree.extend(self._entries)
        return tree

    @cached_property
    def _places(self) -> dict[bytes, int]:
        """Where each entry stands first; kept up with every append."""
        places: dict[bytes, int] = {}
        for place, line in enumerate(self._entries):
            places.setdefault(line, place)
        return places

    def append(self, entry: Entry) -> int:
        """Append an entry durably and return its index.

        Raises:
            InputError: the log holds another entry for the same study, round, candidate or manifest; or it is too long.
            IntegrityError: the file is shorter than this log: an older one was put in its place.
            FederationError: another process does not stop appending.
        """
        from sonoshare_shared.locks import locked  # noqa: PLC0415 - who only verifies has no filelock, nor needs one

        line = canonical_bytes(entry)
        busy = FederationError("the log is being written by another process", remedy="try again")
        with locked(self._path.with_name(f"{self._path.name}.lock"), busy, APPEND_SECONDS):
            self.catch_up()
            self._append(entry, line)
            return len(self._entries) - 1

    def catch_up(self) -> None:
        """Take up what other processes have appended since the log was opened.

        Raises:
            IntegrityError: the file is shorter than this log, or holds what is no entry.
        """
        index = self.index
        with self._path.open("rb") as file:
            file.seek(self._length)
            grown = file.read()
            if file.seek(0, os.SEEK_END) < self._length:
                raise IntegrityError("the log is shorter than when it was opened", remedy="bring back its newest file")
        for line in grown[: grown.rfind(b"\n") + 1].splitlines():
            index.add(line)
            self._take_up(line)

    def _append(self, entry: Entry, line: bytes) -> None:
        if self.index.conflicts(entry):
            raise InputError(
                f"the log shows another {entry['kind']} of this name", remedy="choose a new name: a log never forgets"
            )
        if len(line) > MAX_ENTRY_CHARACTERS:
            raise InputError(f"an entry of the log has at most {MAX_ENTRY_CHARACTERS} bytes", remedy="say it shorter")
        append_at(self._path, self._length, line + b"\n")
        self._take_up(line)
        self.index.add(line)

    def _take_up(self, line: bytes) -> None:
        self._tree.extend([line])  # both first: made now, they are of what stands before it
        self._places.setdefault(line, len(self._entries))
        self._entries.append(line)
        self._length += len(line) + 1

    def index_of(self, entry: Entry) -> int | None:
        """Index of the first entry equal to ``entry``, or None."""
        return self._places.get(canonical_bytes(entry))

    def head(self, size: int | None = None) -> Envelope:
        """A freshly signed head of the first ``size`` entries, or of the whole log; it says the day."""
        size = len(self._entries) if size is None else size
        return signed_head(size, self.root(size), self._key, self._clock)

    def root(self, size: int) -> bytes:
        """Root of the first ``size`` entries."""
        return self._tree.root(size)

    def part(self, first: int, at_most: int = MAX_PART_ENTRIES) -> LogPart:
        """The entries from index ``first`` on under a head that ends with the last of them."""
        entries = self._entries[first : first + at_most]
        head = self.head(first + len(entries))
        return LogPart(first=first, entries=tuple(line.decode() for line in entries), head=head)

    def inclusion_proof(self, index: int) -> list[str]:
        """Inclusion proof (hex) of entry ``index`` in the whole log."""
        return [digest.hex() for digest in self._tree.inclusion_proof(index)]

    def consistency_proof(self, first: int) -> list[str]:
        """Proof (hex) that the tree of the first ``first`` entries is a prefix of the log."""
        return [digest.hex() for digest in self._tree.consistency_proof(first)]


def signed_head(size: int, root: bytes, key: SigningKey, clock: Callable[[], datetime]) -> Envelope:
    """A head of so many entries with this root; it says the day."""
    head = LogHead(size=size, root=root.hex(), time=public_day(clock()))
    return Envelope.sign(LOG_HEAD_PAYLOAD_TYPE, head.canonical(), key)


def verified_head(envelope: Envelope, coordinator: PublicKey) -> LogHead:
    """Check the signature of a head and return it."""
    return Signed.opened(LogHead, envelope, coordinator, LOG_HEAD_PAYLOAD_TYPE).document


def require_extension(old: LogHead, new: LogHead, proof: list[str]) -> None:
    """Refuse a head that is not an extension of one seen before.

    Raises:
        IntegrityError: entries were removed, rewritten, or the log was forked.
    """
    try:
        nodes = [bytes.fromhex(node) for node in proof]
    except ValueError as error:
        raise IntegrityError("consistency proof is not hexadecimal") from error
    if old.size == 0:
        return
    consistent = merkle.verify_consistency(old.size, new.size, bytes.fromhex(old.root), bytes.fromhex(new.root), nodes)
    if not consistent:
        raise IntegrityError(
            "the log is not an extension of the one seen before",
            remedy="tell the other hospitals: it was forked",
        )


def read_entries(path: Path) -> tuple[list[bytes], int]:
    """Whole entries of a log file, which is made when absent, and their length in bytes."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another process made it meanwhile
            create(path, b"")
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    return data[:whole].splitlines(), whole
