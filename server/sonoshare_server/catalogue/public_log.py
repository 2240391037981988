"""The transparency log as a catalogue serves it: kept between requests, and grown by what was appended since.

    log = OwnLog(home.log_path, home.key, clock)    the coordinator's file; heads are signed for whoever asks
    log = ExportedLog(Path("log.json"))             a file as ``GET /api/v1/log`` gives it, under the head that is in it

Promises: what was appended, or put in the file's place, a moment ago is seen by the next who asks. A proof costs as
many hashes as the tree is high, and no reading of entries that were read before; a proof and its head are of one size.
Where the file is another or shorter than before (a backup was brought back), all of it is read anew.
Not promised: small memory. A process keeps the entries and some 250 bytes more for each.
"""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import Entry
from sonoshare_shared.protocol.merkle_tree import GrowingTree
from sonoshare_shared.protocol.release.evidence import LogProof, LogView
from sonoshare_shared.protocol.translog import signed_head

_REVOCATION: Final = b'"kind":"revocation"'
"""Stands so in every revocation, which is canonical JSON, and in hardly anything else."""


@dataclass(frozen=True)
class Page:
    """Some entries of a log of so many, and the index to go on at."""

    size: int
    entries: list[str]
    following: int | None


class PublicLog(Protocol):
    """A log that somebody serves."""

    def view(self) -> LogView:
        """All of it under its head."""

    def head(self) -> Envelope:
        """Its head."""

    def page(self, first: int, limit: int) -> Page:
        """At most so many entries from an index on."""

    def index_of(self, entry: Entry) -> int | None:
        """Index of the first entry that is the same, or None."""

    def inclusion(self, index: int) -> LogProof:
        """That an entry is in it.

        Raises:
            InputError: there is no such entry.
        """

    def consistency(self, first: int) -> tuple[list[str], Envelope]:
        """That the log of so many entries is the beginning of this one, and its head.

        Raises:
            InputError: there are not so many.
        """

    def revocations(self) -> list[tuple[int, str]]:
        """Index of each entry that may be a revocation, and the entry; oldest first."""


@dataclass
class _Told:
    """What is kept of entries that only come; nothing of them is read twice."""

    entries: list[bytes] = field(default_factory=list)
    tree: GrowingTree = field(default_factory=GrowingTree)
    places: dict[bytes, int] = field(default_factory=dict)
    revocations: list[int] = field(default_factory=list)

    def grow(self, lines: Sequence[bytes]) -> None:
        for place, line in enumerate(lines, start=len(self.entries)):
            self.places.setdefault(line, place)
            if _REVOCATION in line:
                self.revocations.append(place)
        self.tree.extend(lines)
        self.entries.extend(lines)


class _KeptLog(ABC):
    """What both logs do; each says how it catches up, and what its head is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = _Told()

    @abstractmethod
    def _catch_up(self) -> None:
        """Take in what was appended, or put in the file's place."""

    @abstractmethod
    def _head(self) -> Envelope:
        """The head of what is kept."""

    @contextmanager
    def _now(self) -> Iterator[_Told]:
        with self._lock:
            self._catch_up()
            yield self._told

    def view(self) -> LogView:
        """All of it under its head."""
        with self._now() as told:
            return LogView(head=self._head(), entries=tuple(line.decode() for line in told.entries))

    def head(self) -> Envelope:
        """Its head."""
        with self._now():
            return self._head()

    def page(self, first: int, limit: int) -> Page:
        """At most so many entries from an index on."""
        with self._now() as told:
            size, end = len(told.entries), min(first + limit, len(told.entries))
            part = [line.decode() for line in told.entries[first:end]]
        return Page(size, part, end if end < size else None)

    def index_of(self, entry: Entry) -> int | None:
        """Index of the first entry that is the same, or None."""
        with self._now() as told:
            return told.places.get(canonical_bytes(entry))

    def inclusion(self, index: int) -> LogProof:
        """That an entry is in it."""
        with self._now() as told:
            path = tuple(node.hex() for node in told.tree.inclusion_proof(index))
            return LogProof(index=index, proof=path, head=self._head())

    def consistency(self, first: int) -> tuple[list[str], Envelope]:
        """That the log of so many entries is the beginning of this one, and its head."""
        with self._now() as told:
            return [node.hex() for node in told.tree.consistency_proof(first)], self._head()

    def revocations(self) -> list[tuple[int, str]]:
        """Index and text of each entry that may be a revocation."""
        with self._now() as told:
            return [(place, told.entries[place].decode()) for place in told.revocations]


class OwnLog(_KeptLog):
    """The log in a coordinator's folder, as it is whenever somebody asks.

    Args:
        path: its file; it may be absent as long as it is empty.
        key: the coordinator's, which signs heads.
        clock: gives the day of a head.
    """

    def __init__(self, path: Path, key: SigningKey, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self._path, self._key, self._clock = path, key, clock
        self._length, self._inode = 0, -1

    def _catch_up(self) -> None:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            self._told, self._length = _Told(), 0
            return
        with file:
            if not self._goes_on(file):
                self._told, self._length = _Told(), 0
            self._inode = os.fstat(file.fileno()).st_ino
            file.seek(self._length)
            grown = file.read()
        whole = grown.rfind(b"\n") + 1  # behind it a write is under way, or was cut
        self._told.grow(grown[:whole].splitlines())
        self._length += whole

    def _goes_on(self, file: BinaryIO) -> bool:
        """Whether a file is the one that was read before, and holds what it held, as far as its last entry tells."""
        if os.fstat(file.fileno()).st_ino != self._inode:
            return False
        if not self._told.entries:
            return True
        last = self._told.entries[-1] + b"\n"
        file.seek(self._length - len(last))
        return file.read(len(last)) == last

    def _head(self) -> Envelope:
        size = len(self._told.entries)
        return signed_head(size, self._told.tree.root(size), self._key, self._clock)


class ExportedLog(_KeptLog):
    """A log in a file that somebody with the key has made; it is read again when another is put in its place.

    Args:
        path: the file; read at once.

    Raises:
        IntegrityError: it is no log.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        with self._now():
            pass

    def _catch_up(self) -> None:
        status = self._path.stat()
        stamp = status.st_ino, status.st_size, status.st_mtime_ns
        if stamp == self._stamp:
            return
        read = LogView.from_bytes(self._path.read_bytes())
        lines, known = [entry.encode() for entry in read.entries], len(self._told.entries)
        if lines[:known] != self._told.entries:
            self._told, known = _Told(), 0
        self._told.grow(lines[known:])
        self._signed, self._stamp = read.head, stamp

    def _head(self) -> Envelope:
        return self._signed
