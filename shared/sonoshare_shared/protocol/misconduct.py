"""Evidence that somebody signed what cannot be true, in one file that anybody can check offline.

Each kind rests on signatures of the accused and on nothing else: a file that verifies cannot have been made without the
accused key, so an honest coordinator or hospital cannot be framed by it. One that does not verify proves nothing.

| evidence | against | why it proves |
|---|---|---|
| ``SplitView`` | coordinator | two log heads it signed that no one log can have: same size, other root; or the larger one's own entries have another root at the smaller one's size |
| ``TwoEntries`` | coordinator | a head it signed over entries of which two fill one slot differently (``log_index``) |
| ``FalseLedgerHead`` | coordinator | a head it signed over an entry that passes for a hospital's ledger head and is not |
| ``ForkedLedger`` | hospital | two heads of its ledger with the same number of entries and different digests |
"""  # noqa: E501 - a table

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from sonoshare_shared.errors import IntegrityError, VerificationError
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.documents import LogHead, Roster
from sonoshare_shared.protocol.documents.base import Document
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


class ForkedLedger(Document):
    """Two ledger heads of one hospital (envelopes of ``LedgerHead``) that no one ledger can have."""

    schema_: Literal["sonoshare/evidence/forked-ledger/v1"] = Field(
        default="sonoshare/evidence/forked-ledger/v1", alias="schema"
    )
    hospital: str
    one: Envelope
    other: Envelope


Evidence = Annotated[SplitView | TwoEntries | FalseLedgerHead | ForkedLedger, Field(discriminator="schema_")]
_EVIDENCE: Final[TypeAdapter[Evidence]] = TypeAdapter(Evidence)


def split_view(one: Envelope, other: Envelope, entries: tuple[bytes, ...], coordinator: PublicKey) -> SplitView:
    """Evidence of two heads; ``entries`` are those of the larger one."""
    smaller, larger = sorted((one, other), key=lambda head: verified_head(head, coordinator).size)
    same = verified_head(smaller, coordinator).size == verified_head(larger, coordinator).size
    return SplitView(smaller=smaller, larger=larger, entries=() if same else _texts(entries))


def faulty_log(fault: Fault, head: Envelope, entries: tuple[bytes, ...]) -> TwoEntries | FalseLedgerHead:
    """Evidence of a log that holds what none may hold."""
    kind = TwoEntries if fault.kind == "two-entries" else FalseLedgerHead
    return kind(head=head, entries=_texts(entries))


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
            case TwoEntries() | FalseLedgerHead():
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


def _verify_faulty(evidence: TwoEntries | FalseLedgerHead, coordinator: PublicKey) -> str:
    leaves = _require_entries(verified_head(evidence.head, coordinator), evidence.entries)
    wanted = "two-entries" if isinstance(evidence, TwoEntries) else "false-ledger-head"
    index = LogIndex()
    faults = [fault for fault in map(index.add, leaves) if fault is not None and fault.kind == wanted]
    if not faults:
        raise IntegrityError("the log holds no such fault")
    return f"signed a log with {faults[0].words} (entry {faults[0].position})"


def _verify_forked(evidence: ForkedLedger, roster: Roster) -> str:
    entry = roster.hospital(evidence.hospital)
    if entry is None:
        raise IntegrityError(f"the roster names no hospital {evidence.hospital!r}")
    one, other = (
        Signed.opened(LedgerHead, envelope, entry.key, LEDGER_HEAD_PAYLOAD_TYPE).document
        for envelope in (evidence.one, evidence.other)
    )
    if one.entries != other.entries or one.head == other.head:
        raise IntegrityError("the two heads are of one ledger")
    return f"signed two different ledgers of {one.entries} entries"


def _require_entries(head: LogHead, entries: tuple[str, ...]) -> list[bytes]:
    leaves = [entry.encode() for entry in entries]
    if len(leaves) != head.size or merkle.root(leaves).hex() != head.root:
        raise IntegrityError("the entries are not those that the head signs")
    return leaves


def _texts(entries: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(entry.decode() for entry in entries)
