"""What the entries of a transparency log say, read entry by entry as the log grows.

Some things may stand in a log once. Each has a *slot*: the plan of a study, the model that a round starts from, the
hospitals of its masked sum, and who took part when it closed (``closed_rounds``), the candidate and the manifest of a
release, the successor of an identity key (``key_lines``).
A second, different entry for a slot would let a server show one to one hospital and the other to another, so it is a
fault of whoever signed the log. So is a ledger head that the key it names did not sign, or that stands after the key
was passed on, and a succession that the two keys did not both sign.
The same entry twice is no fault. Entries of other kinds, and ledger heads of newer versions, are passed over.

A log with a fault is still read to its end: entries are what was signed, and reading on keeps everybody's index of it
the same. The slot that the fault is about stays spoilt for ever (``LogIndex.find`` does not find it); of two
successions of one key the first holds.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from sonoshare_shared.errors import InputError, IntegrityError, NewerVersionError
from sonoshare_shared.protocol.canonical import canonical_bytes, parsed_json, require_canonical
from sonoshare_shared.protocol.documents.identity_succession import opened_succession
from sonoshare_shared.protocol.documents.roster import Roster
from sonoshare_shared.protocol.documents.view import LEDGER_HEAD_PAYLOAD_TYPE, LedgerHead
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.key_lines import KeyLines, LoggedSuccession
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.signed import Signed

PLAN_ENTRY: Final = "plan"
MODEL_ENTRY: Final = "model"
CLOSED_ROUND_ENTRY: Final = "closed-round"
CANDIDATE_ENTRY: Final = "candidate"
MANIFEST_ENTRY: Final = "manifest"
LEDGER_HEAD_ENTRY: Final = "ledger-head"
MASKED_SET_ENTRY: Final = "masked-set"
SUCCESSION_ENTRY: Final = "identity-succession"

# kind -> the fields that name its slot
_SLOT_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    PLAN_ENTRY: ("study",),
    MODEL_ENTRY: ("study", "round"),
    CLOSED_ROUND_ENTRY: ("study", "round"),
    CANDIDATE_ENTRY: ("study", "release"),
    MANIFEST_ENTRY: ("release",),
    MASKED_SET_ENTRY: ("study", "round"),
    SUCCESSION_ENTRY: ("old",),
}

Entry = dict[str, Any]
Slot = bytes


def plan_entry(study: str, digest: str) -> Entry:
    """Log entry of a study plan."""
    return {"kind": PLAN_ENTRY, "study": study, "digest": digest}


def model_entry(study: str, round_number: int, digest: str) -> Entry:
    """Log entry of the global adapter that a round starts from."""
    return {"kind": MODEL_ENTRY, "study": study, "round": round_number, "digest": digest}


def candidate_entry(study: str, release: str, digest: str) -> Entry:
    """Log entry of a candidate release."""
    return {"kind": CANDIDATE_ENTRY, "study": study, "release": release, "digest": digest}


def manifest_entry(study: str, release: str, digest: str) -> Entry:
    """Log entry of a final manifest that the hospitals are asked to sign; it is published when they all have."""
    return {"kind": MANIFEST_ENTRY, "study": study, "release": release, "digest": digest}


def masked_set_entry(study: str, round_number: int, digest: str) -> Entry:
    """Log entry of the hospitals whose masked updates a round adds up (``protocol.masked_set``)."""
    return {"kind": MASKED_SET_ENTRY, "study": study, "round": round_number, "digest": digest}


def ledger_head_entry(head: LedgerHead, signed: Envelope) -> Entry:
    """Log entry of a ledger head and its signed envelope."""
    return {"kind": LEDGER_HEAD_ENTRY, "identity_key": head.identity_key, "signed": signed.model_dump(mode="json")}


def succession_entry(old: str, signed: Envelope) -> Entry:
    """Log entry of the succession of an identity key, and what both keys signed."""
    return {"kind": SUCCESSION_ENTRY, "old": old, "signed": signed.model_dump(mode="json")}


def slot_of(entry: Entry) -> Slot | None:
    """What may stand once of this kind, or None if it may stand often."""
    fields = _SLOT_FIELDS.get(str(entry.get("kind")))
    return None if fields is None else canonical_bytes([entry["kind"], *(entry.get(field) for field in fields)])


@dataclass(frozen=True)
class Fault:
    """What no log may hold.

    Attributes:
        kind: two different entries for one slot, or a ledger head or a succession that its hospital did not sign so.
        position: index of the entry.
        earlier: index of the entry that it contradicts; None for a ledger head and a succession.
        words: what it is, in words.
    """

    kind: Literal["two-entries", "false-ledger-head", "false-succession"]
    position: int
    earlier: int | None
    words: str


@dataclass(frozen=True)
class LoggedHead:
    """A ledger head in the log: where it stands, what it says, and as its hospital signed it."""

    position: int
    head: LedgerHead
    signed: Envelope


class LogIndex:
    """Entries of a log by what they say."""

    def __init__(self) -> None:
        self.size = 0
        self._slots: dict[Slot, tuple[int, bytes]] = {}
        self._spoilt: set[Slot] = set()
        self._heads: dict[str, list[LoggedHead]] = {}
        self._closed: dict[str, list[Entry]] = {}
        self._lines = KeyLines()

    def add(self, line: bytes) -> Fault | None:
        """Read the next entry; returns its fault, if it has one.

        Raises:
            IntegrityError: the line is not a JSON object in canonical form; it was not added.
        """
        entry = read_entry(line)
        position, self.size = self.size, self.size + 1
        if entry.get("kind") == LEDGER_HEAD_ENTRY:
            return self._add_head(entry, position)
        slot = slot_of(entry)
        if slot is None:
            return None
        earlier, said = self._slots.setdefault(slot, (position, line))
        if said == line:
            if earlier == position and entry["kind"] == CLOSED_ROUND_ENTRY:
                self._closed.setdefault(str(entry.get("study")), []).append(entry)
            if earlier == position and entry["kind"] == SUCCESSION_ENTRY:
                return self._add_succession(entry, position)
            return None
        self._spoilt.add(slot)
        return Fault("two-entries", position, earlier, f"two different entries for one {entry['kind']}")

    def conflicts(self, entry: Entry) -> bool:
        """Whether adding an entry would be a fault: its slot is taken by another, or its key was passed on."""
        if entry.get("kind") == LEDGER_HEAD_ENTRY:
            return self._lines.passed_on(str(entry.get("identity_key"))) is not None
        slot = slot_of(entry)
        return slot is not None and self._slots.get(slot, (0, canonical_bytes(entry)))[1] != canonical_bytes(entry)

    def find(self, entry: Entry) -> int | None:
        """Index of an entry that has a slot; None if the log does not show it, or shows another for the slot too."""
        slot = slot_of(entry)
        if slot is None or slot in self._spoilt or slot not in self._slots:
            return None
        position, line = self._slots[slot]
        return position if line == canonical_bytes(entry) else None

    def place(self, entry: Entry) -> int | None:
        """Index of the first entry for the slot of ``entry``, whatever digest it names."""
        slot = slot_of(entry)
        return self._slots[slot][0] if slot in self._slots else None

    def candidates(self, study: str) -> tuple[str, ...]:
        """Releases that candidates of a study were made for, in the order of the log."""
        begins = canonical_bytes([CANDIDATE_ENTRY, study])[:-1] + b","
        # A dict keeps the order in which its keys came.
        return tuple(str(parsed_json(slot)[2]) for slot in self._slots if slot.startswith(begins))

    def closed(self, study: str) -> tuple[Entry, ...]:
        """Entries of the rounds of a study that were closed, as they stand; none twice for one round.

        Raises:
            IntegrityError: the log closes one of them in two ways.
        """
        entries = tuple(self._closed.get(study, ()))
        if any(slot_of(entry) in self._spoilt for entry in entries):
            raise IntegrityError(
                f"the log closes a round of {study} in two ways", remedy="tell the other hospitals: see docs/witness.md"
            )
        return entries

    def heads(self, key: PublicKey) -> tuple[LoggedHead, ...]:
        """Heads of the ledger that a key is of, whichever of its keys signed them, in the order of the log."""
        found = [logged for one in self._lines.line(key.hex) for logged in self._heads.get(one, ())]
        return tuple(sorted(found, key=lambda logged: logged.position))

    def passed_on(self, key: PublicKey) -> LoggedSuccession | None:
        """The succession by which a key stopped to speak for its hospital; None if it speaks."""
        return self._lines.passed_on(key.hex)

    def present_key(self, key: PublicKey) -> PublicKey:
        """The key that speaks now for the ledger that a key is of: the key itself, unless it was passed on."""
        return PublicKey.from_hex(self._lines.line(key.hex)[-1])

    def keys_since(self, key: PublicKey, position: int) -> tuple[PublicKey, ...]:
        """Keys that may have signed what is about an entry of the log: the one of that time, and those that followed.

        Args:
            key: any key of the ledger.
            position: index of the entry.
        """
        return tuple(map(PublicKey.from_hex, self._lines.since(key.hex, position)))

    def successions(self, key: PublicKey) -> tuple[Envelope, ...]:
        """What the keys of a ledger signed when it passed from one to the next, oldest first."""
        return self._lines.successions(key.hex)

    def is_used(self, key: PublicKey) -> bool:
        """Whether a key has a ledger in the log, or is in a line with others: then it cannot follow another."""
        return key.hex in self._heads or self._lines.uses(key.hex)

    def followed(self, roster: Roster) -> Roster:
        """A roster with the identity keys that its hospitals have by this log; the same where none was changed."""
        entries = [
            entry
            if (key := self.present_key(entry.key)) == entry.key
            else entry.model_copy(update={"identity_key": key.hex})
            for entry in roster.hospitals
        ]
        if entries == list(roster.hospitals):
            return roster
        return roster.model_copy(update={"hospitals": tuple(entries)})

    def newest_head(self, key: PublicKey) -> LoggedHead | None:
        """The one with the most entries."""
        return max(self.heads(key), key=lambda logged: logged.head.entries, default=None)

    def must_have_seen(self, key: PublicKey, step: int) -> int:
        """Index that the others' views must reach before this hospital acts: the step, and its own older heads.

        All of the hospital's ledger heads but the newest must be known to the others: then a server that shows them
        nothing new can hide two charges of this hospital at most, whatever it asks for.
        """
        older = [logged.position for logged in self.heads(key)][:-1]
        return max([step, *older])

    def _add_head(self, entry: Entry, position: int) -> Fault | None:
        try:
            head, signed = _signed_head(entry)
        except NewerVersionError:
            return None  # its hospital signed it, with a version that this one cannot read
        except (IntegrityError, InputError, ValueError):
            return Fault("false-ledger-head", position, None, "a ledger head that the key it names did not sign")
        if self._lines.passed_on(head.identity_key) is not None:
            return Fault("false-ledger-head", position, None, "a ledger head of a key that was passed on before")
        self._heads.setdefault(head.identity_key, []).append(LoggedHead(position, head, signed))
        return None

    def _add_succession(self, entry: Entry, position: int) -> Fault | None:
        try:
            envelope = Envelope.model_validate(entry.get("signed"))
            said, head = opened_succession(envelope)
            self._lines.add(str(entry["old"]), LoggedSuccession(position, said, head, envelope), self._heads)
        except NewerVersionError:
            return None  # signed with a version that this one cannot read: its hospital is not followed here
        except (IntegrityError, InputError, ValueError):
            return Fault("false-succession", position, None, "a succession of identity keys that does not hold")
        # The old ledger's newest head is logged with it: what the new key's ledger must hold.
        self._heads.setdefault(said.document.old, []).append(LoggedHead(position, head, said.document.ledger))
        return None


def read_entry(line: bytes) -> Entry:
    """Parse an entry.

    Raises:
        IntegrityError: it is not a JSON object in canonical form.
    """
    require_canonical(line, "an entry of the log")
    entry = parsed_json(line)
    if not isinstance(entry, dict):
        raise IntegrityError("an entry of the log is not a JSON object in its canonical form")
    return entry


def _signed_head(entry: Entry) -> tuple[LedgerHead, Envelope]:
    key = PublicKey.from_hex(str(entry.get("identity_key")))
    envelope = Envelope.model_validate(entry.get("signed"))
    head = Signed.opened(LedgerHead, envelope, key, LEDGER_HEAD_PAYLOAD_TYPE).document
    if head.identity_key != key.hex:
        raise IntegrityError("a ledger head names another key than the one that signed it")
    return head, envelope
