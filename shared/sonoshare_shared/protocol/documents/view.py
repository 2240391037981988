"""What a hospital has seen: signed anew with every answer, logged in part, and passed on to the other hospitals.

A hospital's *view* says three things at one moment: the newest head of the transparency log that it holds a whole copy
of, the head of its own ledger, and which challenges of other hospitals it has received. A view that answers a challenge
was signed after the challenge was made, so nobody can pass off an old one as new. Views hold no root of the hospital's
own making: the log's head in it is the very envelope that the coordinator signed, so two views that do not fit together
always show what the *coordinator* signed, and a hospital that lies can only make its own view worthless.

| document | signed by | where it goes |
|---|---|---|
| ``LedgerHead`` | hospital | in each of its views, and into the log as an entry |
| ``HospitalView`` | hospital | with each of its answers; the coordinator passes it on |
| ``LogPart`` | (its head) coordinator | with each request: the entries that the hospital does not hold yet |
| ``Shown`` | - | with each request that may cost something: a log part and the other hospitals' views |
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier
from sonoshare_shared.protocol.envelope import Envelope

LEDGER_HEAD_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.ledger-head+json"
VIEW_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.hospital-view+json"

MAX_PART_ENTRIES: Final = 2000
"""Most entries in one request; a hospital that lacks more is brought up in several."""

MAX_ENTRY_CHARACTERS: Final = 16 << 10
"""Longest entry: a revocation with its reason in words is the longest there is."""

MAX_HOSPITALS: Final = 1000


class LedgerHead(Document):
    """How far a hospital's privacy ledger has come. Says what was asked for, never anything of a patient.

    Attributes:
        hospital: who.
        identity_key: the key of this ledger and of this signature; an id may be given anew, a key may not.
        entries: number of entries.
        head: digest of the last entry.
    """

    schema_: Literal["sonoshare/ledger-head/v1"] = Field(default="sonoshare/ledger-head/v1", alias="schema")
    hospital: Identifier
    identity_key: HexDigest
    entries: Annotated[int, Field(ge=1)]
    head: HexDigest


class HospitalView(Document):
    """What a hospital has seen when it signed this.

    Attributes:
        hospital: who.
        identity_key: its identity key.
        ledger: signed ``LedgerHead`` of its ledger as it stands.
        log: the newest log head, as the coordinator signed it, of which it holds every entry; None before the first.
        challenge: random, made when the hospital's agent started; others' views must answer it.
        answers: challenges of other hospitals that it was asked to answer, by hospital.
        evidence: digest of the evidence of misconduct that it holds; it then refuses every request.
        result: sha256 of the signed payload that it goes with; None with an introduction.
    """

    schema_: Literal["sonoshare/hospital-view/v1"] = Field(default="sonoshare/hospital-view/v1", alias="schema")
    hospital: Identifier
    identity_key: HexDigest
    ledger: Envelope
    log: Envelope | None
    challenge: HexDigest
    answers: Annotated[dict[Identifier, HexDigest], Field(max_length=MAX_HOSPITALS)]
    evidence: HexDigest | None
    result: HexDigest | None


class LogPart(Document):
    """Consecutive entries of the log up to a signed head.

    Attributes:
        first: index of the first entry.
        entries: canonical JSON, oldest first.
        head: signed head of the log that ends with the last entry (envelope of ``LogHead``).
    """

    first: Annotated[int, Field(ge=0)]
    entries: Annotated[
        tuple[Annotated[str, Field(max_length=MAX_ENTRY_CHARACTERS)], ...], Field(max_length=MAX_PART_ENTRIES)
    ]
    head: Envelope


class Shown(Document):
    """What a hospital must be shown before it does anything.

    Attributes:
        log: what it does not hold yet of the log.
        views: newest signed views of the other hospitals, by hospital.
    """

    log: LogPart
    views: Annotated[dict[Identifier, Envelope], Field(max_length=MAX_HOSPITALS)]
