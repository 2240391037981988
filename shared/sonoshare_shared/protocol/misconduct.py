"""Evidence that somebody signed what cannot be true, in one file that anybody can check offline.

Each kind rests on signatures of the accused and on nothing else: a file that verifies cannot have been made without the
accused key, so an honest coordinator or hospital cannot be framed by it. One that does not verify proves nothing.

| evidence | against | why it proves |
|---|---|---|
| ``SplitView`` | coordinator | two log heads it signed that no one log can have: same size, other root; or the larger one's own entries have another root at the smaller one's size |
| ``TwoEntries`` | coordinator | a head it signed over entries of which two fill one slot differently (``log_index``) |
| ``FalseLedgerHead`` | coordinator | a head it signed over an entry that passes for a hospital's ledger head and is not |
| ``FalseSuccession`` | coordinator | a head it signed over an entry that passes an identity key on and does not hold |
| ``ForkedLedger`` | hospital | two heads of its ledger, of one key or of keys that followed each other, with the same number of entries and different digests |
"""  # noqa: E501 - a table

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from sonoshare_shared.errors import IntegrityError, MisconductError, VerificationError
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.documents import HospitalEntry, LogHead, Roster
from sonoshare_shared.protocol.documents.base import Document, added
from sonoshare_shared.protocol.documents.identity_succession import opened_succession
from sonoshare_shared.protocol.documents.view import LEDGER_HEAD_PAYLOAD_TYPE, LedgerHead
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import Fault, LogIndex
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.protocol.translog import verified_head

SCHEMA_PREFIX: Final = "sonoshare/evidence/"
_CAUSE: Final = "evidence"


class SplitView(Document):
    """Two signed log heads, smaller first, and the entries of the larger one where their sizes differ."""

    schema_: Literal["sonoshare/evidence/split-view/v1"] = Field(
        default="sonoshare/evidence/split-view/v1", alias="schema"
    )
    smaller: Envelope
    larger: Envelope
    entries: tuple[str, ...] = ()


class TwoEntries(Document):
    """A signed log in which two entries fill one slot."""

    schema_: Literal["sonoshare/evidence/two-entries/v1"] = Field(
        default="sonoshare/evidence/two-entries/v1", alias="schema"
    )
    head: Envelope
    entries: tuple[str, ...]


class FalseLedgerHead(Document):
    """A signed log with a ledger head that its hospital did not sign."""

    schema_: Literal["sonoshare/evidence/false-ledger-head/v1"] = Field(
        default="sonoshare/evidence/false-ledger-head/v1", alias="schema"
    )
    head: Envelope
    entries: tuple[str, ...]


class FalseSuccession(Document):
    """A signed log with a succession of identity keys that they did not both sign, or that nobody may make."""

    schema_: Literal["sonoshare/evidence/false-succession/v1"] = Field(
        default="sonoshare/evidence/false-succession/v1", alias="schema"
    )
    head: Envelope
    entries: tuple[str, ...]


class ForkedLedger(Document):
    """Two ledger heads of one hospital (envelopes of ``LedgerHead``) that no one ledger can have.

    Where its identity key was changed, ``successions`` holds what the keys signed then.
    """

    schema_: Literal["sonoshare/evidence/forked-ledger/v1"] = Field(
        default="sonoshare/evidence/forked-ledger/v1", alias="schema"
    )
    hospital: str
    one: Envelope
    other: Envelope
    successions: tuple[Envelope, ...] | None = added()


FaultyLog = TwoEntries | FalseLedgerHead | FalseSuccession
Evidence = Annotated[SplitView | FaultyLog | ForkedLedger, Field(discriminator="schema_")]
_FAULTY: Final[dict[str, type[FaultyLog]]] = {
    "two-entries": TwoEntries,
    "false-ledger-head": FalseLedgerHead,
    "false-succession": FalseSuccession,
}
_EVIDENCE: Final[TypeAdapter[Evidence]] = TypeAdapter(Evidence)


def split_view(one: Envelope, other: Envelope, entries: tuple[bytes, ...], coordinator: PublicKey) -> SplitView:
    """Evidence of two heads; ``entries`` are those of the larger one."""
    smaller, larger = sorted((one, other), key=lambda head: verified_head(head, coordinator).size)
    same = verified_head(smaller, coordinator).size == verified_head(larger, coordinator).size
    return SplitView(smaller=smaller, larger=larger, entries=() if same else _texts(entries))


def faulty_log(fault: Fault, head: Envelope, entries: tuple[bytes, ...]) -> FaultyLog:
    """Evidence of a log that holds what none may hold."""
    return _FAULTY[fault.kind](head=head, entries=_texts(entries))


def require_ledger_not_older(head: LedgerHead, signed: Envelope, index: LogIndex) -> None:
    """Check that a ledger is not older than the log shows it, under whichever of its keys.

    Args:
        head: a head that its hospital has signed.
        signed: as it was signed.
        index: the log.

    Raises:
        IntegrityError: it has fewer entries than it had.
        MisconductError: its hospital has signed another ledger of the same number of entries, which is proved.
    """
    key, hospital = PublicKey.from_hex(head.identity_key), head.hospital
    newest = index.newest_head(key)
    if newest is None or newest.head.head == head.head:
        return
    remedy = f"a backup or copy was restored at {hospital}: it must bring back its newest ledger"
    if head.entries < newest.head.entries:
        raise IntegrityError(
            f"the ledger of {hospital} has {head.entries} entries and had {newest.head.entries}", remedy=remedy
        )
    if head.entries == newest.head.entries:
        links = index.successions(key) or None
        evidence = ForkedLedger(hospital=hospital, one=newest.signed, other=signed, successions=links)
        raise MisconductError(
            f"{hospital} signed two different ledgers of {head.entries} entries",
            evidence=evidence.canonical(),
            remedy=remedy,
        )


def verify_evidence(data: bytes, roster: Roster) -> tuple[str, str]:
    """Check an evidence file against the keys of a roster.

    Returns:
        Who is proved to have signed what cannot be true (a hospital's id, or ``coordinator``), and what it is in words.

    Raises:
        VerificationError: cause ``evidence``: the file proves nothing.
    """
    try:
        found = _EVIDENCE.validate_json(data)
    except ValidationError as error:
        raise VerificationError(_CAUSE, "the file is no evidence that this version knows") from error
    try:
        match found:
            case SplitView():
                return "coordinator", _verify_split(found, PublicKey.from_hex(roster.coordinator_key))
            case TwoEntries() | FalseLedgerHead() | FalseSuccession():
                return "coordinator", _verify_faulty(found, PublicKey.from_hex(roster.coordinator_key))
            case ForkedLedger():
                return found.hospital, _verify_forked(found, roster)
    except IntegrityError as error:
        raise VerificationError(_CAUSE, error.message) from error


def _verify_split(evidence: SplitView, coordinator: PublicKey) -> str:
    smaller, larger = verified_head(evidence.smaller, coordinator), verified_head(evidence.larger, coordinator)
    if smaller.size == larger.size:
        if smaller.root == larger.root:
            raise IntegrityError("the two heads are of one log")
        return f"signed two different logs of {larger.size} entries"
    leaves = _require_entries(larger, evidence.entries)
    if smaller.size > larger.size or merkle.root(leaves[: smaller.size]).hex() == smaller.root:
        raise IntegrityError("the two heads are of one log")
    return f"signed a log of {larger.size} entries that does not extend the one of {smaller.size} entries it signed"


def _verify_faulty(evidence: FaultyLog, coordinator: PublicKey) -> str:
    leaves = _require_entries(verified_head(evidence.head, coordinator), evidence.entries)
    index = LogIndex()
    found = [fault for fault in map(index.add, leaves) if fault is not None]
    faults = [fault for fault in found if _FAULTY[fault.kind] is type(evidence)]
    if not faults:
        raise IntegrityError("the log holds no such fault")
    return f"signed a log with {faults[0].words} (entry {faults[0].position})"


def _verify_forked(evidence: ForkedLedger, roster: Roster) -> str:
    entry = roster.hospital(evidence.hospital)
    if entry is None:
        raise IntegrityError(f"the roster names no hospital {evidence.hospital!r}")
    keys = _keys_of_one_ledger(entry, evidence.successions or ())
    one, other = (_head_by(keys, envelope) for envelope in (evidence.one, evidence.other))
    if one.entries != other.entries or one.head == other.head:
        raise IntegrityError("the two heads are of one ledger")
    return f"signed two different ledgers of {one.entries} entries"


def _keys_of_one_ledger(entry: HospitalEntry, successions: tuple[Envelope, ...]) -> set[str]:
    """The roster's key of a hospital, and those that a chain of successions leads to: each is signed by both ends."""
    said = [opened_succession(envelope)[0].document for envelope in successions]
    keys, links = {entry.identity_key}, {(one.old, one.new) for one in said if one.hospital == entry.id}
    for _ in links:
        keys |= {key for link in links if keys.intersection(link) for key in link}
    return keys


def _head_by(keys: set[str], envelope: Envelope) -> LedgerHead:
    """A ledger head that one of these keys has signed as its own."""
    named = LedgerHead.from_bytes(envelope.decoded()).identity_key
    if named not in keys:
        raise VerificationError("signature", "a ledger head is signed by no key of this hospital")
    return Signed.opened(LedgerHead, envelope, PublicKey.from_hex(named), LEDGER_HEAD_PAYLOAD_TYPE).document


def _require_entries(head: LogHead, entries: tuple[str, ...]) -> list[bytes]:
    leaves = [entry.encode() for entry in entries]
    if len(leaves) != head.size or merkle.root(leaves).hex() != head.root:
        raise IntegrityError("the entries are not those that the head signs")
    return leaves


def _texts(entries: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(entry.decode() for entry in entries)
