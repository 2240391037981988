"""Which identity keys are of one ledger, by the order of the log: the one answer for everybody who reads it.

    {"kind": "identity-succession", "old": "5e71...", "signed": {...}}

A *line* is the keys that one ledger had, oldest first. A succession in the log adds a key to a line; from its place on

- the new key speaks for the hospital, and the old one for nothing: a head of it that is logged later is a fault;
- the heads of all keys of the line are heads of one ledger, so nothing that was spent is shed.

What a key signed *before* that place, about things that stand before it, stays what it is (`LogIndex.keys_since`).

A succession counts only if both keys signed it, the old one was never passed on, and the new one was never used: it has
no ledger head in the log and is in no other line. An entry that fails this is a fault of whoever signed the log. It
changes no line. The order is the log's and not a roster's: a hospital that has an old roster pinned follows the line.
"""

from collections.abc import Container
from dataclasses import dataclass

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents.identity_succession import IdentitySuccession
from sonoshare_shared.protocol.documents.view import LedgerHead
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.signed import Signed


@dataclass(frozen=True)
class LoggedSuccession:
    """A succession in the log.

    Attributes:
        position: where it stands.
        said: what both keys signed.
        head: how far the ledger had come, as the old key signed it.
        envelope: as it was signed.
    """

    position: int
    said: Signed[IdentitySuccession]
    head: LedgerHead
    envelope: Envelope


class KeyLines:
    """The lines that the successions of a log amount to, by keys in hexadecimal."""

    def __init__(self) -> None:
        self._after: dict[str, LoggedSuccession] = {}
        self._before: dict[str, LoggedSuccession] = {}

    def add(self, named: str, logged: LoggedSuccession, ledgers: Container[str]) -> None:
        """Add a succession.

        Args:
            named: the old key, as the entry names it.
            logged: the succession.
            ledgers: keys that have a ledger head in the log.

        Raises:
            IntegrityError: the entry is of another key, the old key was passed on before, or the new one was used.
        """
        said = logged.said.document
        if said.old != named or said.new in ledgers:
            raise IntegrityError("an identity key passes to one that has a ledger, or the entry is of another key")
        if said.old in self._after:
            raise IntegrityError("an identity key that was passed on before is passed on again")
        if self.uses(said.new):
            raise IntegrityError("an identity key passes to one that was used before")
        self._after[said.old] = self._before[said.new] = logged

    def uses(self, key: str) -> bool:
        """Whether a key is in a line with others."""
        return key in self._after or key in self._before

    def passed_on(self, key: str) -> LoggedSuccession | None:
        """By which succession a key stopped to speak for its hospital; None if it did not."""
        return self._after.get(key)

    def line(self, key: str) -> tuple[str, ...]:
        """Every key of the ledger that a key is of, oldest first. No line has an end that it began with (`add`)."""
        keys = [key]
        while (logged := self._before.get(keys[0])) is not None:
            keys.insert(0, logged.said.document.old)
        while (logged := self._after.get(keys[-1])) is not None:
            keys.append(logged.said.document.new)
        return tuple(keys)

    def since(self, key: str, position: int) -> tuple[str, ...]:
        """Keys of a line from the one that spoke when the log had this entry as its newest, to the present one."""
        ended = [logged for old in self.line(key) if (logged := self._after.get(old)) is not None]
        return self.line(key)[sum(logged.position <= position for logged in ended) :]

    def successions(self, key: str) -> tuple[Envelope, ...]:
        """What the keys of a line signed when it passed from one to the next, oldest first."""
        return tuple(logged.envelope for old in self.line(key) if (logged := self._after.get(old)) is not None)
