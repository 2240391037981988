"""This hospital's own copy of the transparency log: whole, durable, and never anything but longer.

    state/log.jsonl            entries, one canonical JSON a line
    state/log-head.dsse.json   the newest head of the coordinator that they amount to

Promise: an entry is here only if the coordinator signed a head over it and over everything before it; the head is on
the disk before ``extend`` returns, so a server cannot show one log now and another later, whatever is killed. The root
is worked out here from the entries: nothing that the server says about consistency is believed.
Entries beyond the head (a kill between the two writes) are cut off by the next extension.

A head of the coordinator that does not fit is evidence against it where the two heads alone prove it, or this copy
does; a log whose entries do not amount to its head proves nothing, and is refused.
"""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sonoshare_client.node.paths import StatePaths
from sonoshare_shared.durable import append_at, write_atomically
from sonoshare_shared.errors import InputError, IntegrityError, MisconductError, WitnessError
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.documents import LogHead
from sonoshare_shared.protocol.documents.release import LOG_HEAD_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.view import LogPart
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import Entry, Fault, LogIndex, read_entry
from sonoshare_shared.protocol.merkle_tree import GrowingTree
from sonoshare_shared.protocol.misconduct import SplitView, faulty_log, split_view
from sonoshare_shared.protocol.translog import read_entries, verified_head

MAX_LOG_BYTES: Final = 256 << 20
"""A server that would fill the hospital's disk with entries is refused here."""


@dataclass
class LogCopy:
    """The copy, read once and kept warm; one process extends it.

    Attributes:
        head: the newest signed head, as the coordinator sent it; None before the first.
        index: what the entries say.
    """

    _paths: StatePaths
    head: Envelope | None = None
    index: LogIndex = field(default_factory=LogIndex)
    _entries: list[bytes] = field(default_factory=list)
    _length: int = 0
    _frontier: merkle.Frontier = field(default_factory=merkle.Frontier)
    _tree: GrowingTree = field(default_factory=GrowingTree)
    _before: LogHead | None = None

    @classmethod
    def open(cls, folder: Path) -> "LogCopy":
        """Read the copy in a node's state folder; it may be empty.

        Raises:
            IntegrityError: the entries are not those of the head beside them.
        """
        paths = StatePaths(folder)
        copy = cls(paths)
        if paths.log_head_path.exists():
            copy._load(Envelope.load(paths.log_head_path))
        elif paths.log_head_alone_path.exists():
            copy._before = LogHead.from_bytes(paths.log_head_alone_path.read_bytes())
        return copy

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self._entries)

    @property
    def entries(self) -> tuple[bytes, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    def root_at(self, size: int) -> bytes:
        """Root of the first ``size`` entries."""
        return self._tree.root(size)

    def extend(self, part: LogPart, coordinator: PublicKey) -> None:
        """Take in what the coordinator shows of the log.

        Raises:
            VerificationError: the head is not signed by the coordinator.
            WitnessError: the part begins after the end of this copy.
            IntegrityError: it does not extend this copy, or is no log.
            MisconductError: the coordinator signed what cannot be true. A faulty entry *is* taken in: it was signed.
        """
        head = verified_head(part.head, coordinator)
        if head.size <= self.size:
            self.require_same(part.head, coordinator)
            return
        lines = [entry.encode() for entry in part.entries]
        new = self._new_entries(part.first, lines, head)
        frontier = self._frontier.extended(new)
        if not self._extends(part.first, lines, frontier, head):
            raise self._fork(part, lines, head, coordinator)
        for line in new:
            read_entry(line)
        self._store(new, part.head)
        self._frontier = frontier
        self._tree.extend(new)
        self._require_faultless([fault for fault in map(self.index.add, new) if fault is not None])

    def require_same(self, head: Envelope, coordinator: PublicKey) -> None:
        """Check that a signed head, no larger than this copy, is of the same log.

        Raises:
            MisconductError: it is of another.
        """
        other = verified_head(head, coordinator)
        if self.root_at(other.size).hex() == other.root:
            return
        if self.head is None:
            raise IntegrityError("the log's head is not that of an empty log")
        raise _two_logs(split_view(head, self.head, self.entries, coordinator))

    def require_entry(self, entry: Entry) -> int:
        """Index of an entry that hospitals act on.

        Raises:
            IntegrityError: the log does not show it, or shows another in its place.
        """
        position = self.index.find(entry)
        if position is None:
            raise IntegrityError(
                "the log does not show what was sent to this hospital",
                remedy="tell the other hospitals: the server may be showing different models",
            )
        return position

    def _load(self, head: Envelope) -> None:
        claimed = LogHead.from_bytes(_payload(head))
        entries, _ = read_entries(self._paths.log_path)
        kept = entries[: claimed.size]
        frontier = merkle.Frontier().extended(kept)
        if frontier.size != claimed.size or frontier.root().hex() != claimed.root:
            raise IntegrityError(
                "this hospital's copy of the transparency log is damaged",
                remedy=f"bring back the newest {self._paths.log_path.name} and {self._paths.log_head_path.name}",
            )
        for line in kept:
            self.index.add(line)
        self.head, self._entries, self._frontier = head, kept, frontier
        self._tree.extend(kept)
        self._length = sum(len(line) + 1 for line in kept)

    def _new_entries(self, first: int, lines: list[bytes], head: LogHead) -> list[bytes]:
        """Entries of a part that this copy does not hold."""
        if first > self.size:
            raise WitnessError(
                f"the log shown begins at entry {first}, and this hospital holds {self.size}",
                remedy="ask for this hospital's keys, then show it the rest",
            )
        if first + len(lines) != head.size:
            raise IntegrityError("the log is not as long as its head says", remedy="send it again")
        new = lines[self.size - first :]
        if self._length + sum(len(line) + 1 for line in new) > MAX_LOG_BYTES:
            raise InputError("the log is too long for this hospital", remedy="ask the coordinator what fills it")
        return new

    def _extends(self, first: int, lines: list[bytes], frontier: merkle.Frontier, head: LogHead) -> bool:
        """Whether the entries shown are this copy's as far as it goes, and amount to the head."""
        if lines[: self.size - first] != self._entries[first:] or frontier.root().hex() != head.root:
            return False
        before = self._before if self.head is None else None
        return before is None or merkle.root(lines[: before.size]).hex() == before.root

    def _fork(self, part: LogPart, lines: list[bytes], head: LogHead, coordinator: PublicKey) -> IntegrityError:
        """Another log was shown: with all of its entries it is evidence, with some of them it proves nothing."""
        if part.first == 0 and self.head is not None and merkle.root(lines).hex() == head.root:
            return _two_logs(split_view(part.head, self.head, tuple(lines), coordinator))
        return IntegrityError(
            "the log is not an extension of the one seen before", remedy="tell the other hospitals: it was forked"
        )

    def _store(self, new: list[bytes], head: Envelope) -> None:
        data = b"".join(line + b"\n" for line in new)
        entries = self._paths.log_path
        if not entries.exists():
            write_atomically(entries, b"")
        append_at(entries, self._length, data)
        write_atomically(self._paths.log_head_path, head.to_bytes())
        self.head = head
        self._entries += new
        self._length += len(data)

    def _require_faultless(self, faults: list[Fault]) -> None:
        if faults and self.head is not None:
            evidence = faulty_log(faults[0], self.head, self.entries)
            raise MisconductError(
                f"the log holds {faults[0].words}",
                evidence=evidence.canonical(),
                remedy="tell the other hospitals: the server may be showing different things",
            )


def _two_logs(evidence: SplitView) -> MisconductError:
    return MisconductError(
        "the coordinator signed two different logs",
        evidence=evidence.canonical(),
        remedy="tell the other hospitals: the server is showing different things",
    )


def _payload(head: Envelope) -> bytes:
    """Payload of the head that this node stored after checking it; the coordinator's key may have changed since."""
    if head.payloadType != LOG_HEAD_PAYLOAD_TYPE:
        raise IntegrityError("the stored log head is no log head", remedy="bring back the newest copy of state/")
    return base64.b64decode(head.payload)
