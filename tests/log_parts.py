"""A consortium of keys alone: a coordinator that may sign anything, hospitals that sign what they have seen."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents import HospitalEntry, LogHead, Roster
from sonoshare_shared.protocol.documents.release import LOG_HEAD_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.view import (
    LEDGER_HEAD_PAYLOAD_TYPE,
    VIEW_PAYLOAD_TYPE,
    HospitalView,
    LedgerHead,
    LogPart,
)
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import ledger_head_entry, model_entry, plan_entry

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def lines(*entries: dict[Any, Any] | dict[str, Any]) -> list[Any]:
    """Entries as they stand in a log."""
    return [canonical_bytes(entry) for entry in entries]


STUDY = lines(plan_entry("s", "0" * 64), model_entry("s", 1, "1" * 64), model_entry("s", 2, "2" * 64))


@dataclass
class Keys:
    """The keys of a coordinator and of hospitals ``a``, ``b`` and ``c``."""

    coordinator: SigningKey = field(default_factory=SigningKey.generate)
    root: SigningKey = field(default_factory=SigningKey.generate)
    hospitals: dict[str, Any] = field(default_factory=lambda: {name: SigningKey.generate() for name in "abc"})

    @property
    def roster(self) -> Roster:
        return Roster(
            consortium="c",
            version=1,
            expires=NOW + timedelta(days=9000),
            root_key=self.root.public.hex,
            coordinator_key=self.coordinator.public.hex,
            hospitals=tuple(
                HospitalEntry(id=name, identity_key=key.public.hex, node_key=f"ssh {name}")
                for name, key in self.hospitals.items()
            ),
            audit_policy="0" * 64,
        )

    def head(self, entries: list[Any], key: Any = None, **changes: Any) -> Envelope:
        """A signed head over entries."""
        fields = {"size": len(entries), "root": merkle.root(entries).hex(), "time": NOW, **changes}
        return Envelope.sign(LOG_HEAD_PAYLOAD_TYPE, LogHead(**fields).canonical(), key or self.coordinator)

    def part(self, entries: list[Any], first: int = 0, **changes: Any) -> LogPart:
        """All entries from ``first`` on."""
        shown = tuple(line.decode() for line in entries[first:])
        return LogPart(**{"first": first, "entries": shown, "head": self.head(entries), **changes})

    def ledger_head(
        self, hospital: str, entries: int = 1, digest: str = "5" * 64, key: Any = None
    ) -> tuple[LedgerHead, Envelope]:
        """A ledger head and its envelope."""
        signer = key or self.hospitals[hospital]
        head = LedgerHead(hospital=hospital, identity_key=signer.public.hex, entries=entries, head=digest)
        return head, Envelope.sign(LEDGER_HEAD_PAYLOAD_TYPE, head.canonical(), signer)

    def logged_head(self, hospital: str, entries: int = 1, digest: str = "5" * 64) -> dict[str, Any]:
        """The log entry of a ledger head."""
        return ledger_head_entry(*self.ledger_head(hospital, entries, digest))

    def view(self, hospital: str, log: Envelope, *, answers: Any = None, key: Any = None, **changes: Any) -> Envelope:
        """What a hospital signs that it has seen; ``log`` is the head in it."""
        signer = key or self.hospitals[hospital]
        fields = {
            "hospital": hospital,
            "identity_key": signer.public.hex,
            "ledger": self.ledger_head(hospital, key=signer)[1],
            "log": log,
            "challenge": "c" * 64,
            "answers": answers or {},
            "evidence": None,
            "result": None,
            **changes,
        }
        return Envelope.sign(VIEW_PAYLOAD_TYPE, HospitalView(**fields).canonical(), signer)
