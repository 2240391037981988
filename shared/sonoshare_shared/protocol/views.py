"""Checking what a hospital signs that it has seen: bytes in, checked values out, no input or output."""

import base64
import binascii
from dataclasses import dataclass

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import LogHead, Roster
from sonoshare_shared.protocol.documents.view import (
    LEDGER_HEAD_PAYLOAD_TYPE,
    VIEW_PAYLOAD_TYPE,
    HospitalView,
    LedgerHead,
)
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import LogIndex
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.protocol.translog import verified_head


@dataclass(frozen=True)
class SeenView:
    """A view whose signatures have been checked.

    Attributes:
        envelope: as the hospital signed it.
        view: what it says.
        ledger: the ledger head in it.
        log: the log head in it; None if the hospital has seen none.
    """

    envelope: Envelope
    view: HospitalView
    ledger: LedgerHead
    log: LogHead | None

    @property
    def log_size(self) -> int:
        """Number of entries of the log that the hospital holds."""
        return 0 if self.log is None else self.log.size

    def answers(self, hospital: str, challenge: str) -> bool:
        """Whether the view was signed after a hospital made this challenge."""
        return self.view.answers.get(hospital) == challenge

    @property
    def key(self) -> PublicKey:
        """The hospital's identity key."""
        return PublicKey.from_hex(self.view.identity_key)


def result_digest(envelope: Envelope) -> str:
    """What a view names of the signed document that it goes with: sha256 of its payload.

    Raises:
        IntegrityError: the envelope's payload is not base64.
    """
    try:
        return sha256_hex(base64.b64decode(envelope.payload, validate=True))
    except binascii.Error as error:
        raise IntegrityError("the envelope is not valid base64") from error


def verified_view(envelope: Envelope, hospital: str, roster: Roster, index: LogIndex | None = None) -> SeenView:
    """Check a view of a hospital of the roster, and that its envelopes hold nothing but what was signed.

    Views are kept and passed on, and ledger heads logged: nothing in them may have a length of its sender's choice.

    Args:
        envelope: the view.
        hospital: whose it must be.
        roster: whose keys count.
        index: the log, for who must reach a hospital that has not seen the succession of its key yet: a key that was
            passed on then counts for a view of a log that does not show it. None where the roster's keys alone count.

    Raises:
        IntegrityError: it is not this hospital's, or what is in it was not signed by whom it should be.
    """
    entry = roster.hospital(hospital)
    if entry is None:
        raise IntegrityError(f"{hospital} is not in the roster", remedy="enrol with the newest roster")
    keys = (entry.key,) if index is None else index.keys_since(entry.key, -1)
    key = envelope.signer_among(keys) or entry.key
    view = Signed.opened(HospitalView, envelope, key, VIEW_PAYLOAD_TYPE).document
    ledger = Signed.opened(LedgerHead, view.ledger, key, LEDGER_HEAD_PAYLOAD_TYPE).document
    named = {(view.hospital, view.identity_key), (ledger.hospital, ledger.identity_key)}
    if named != {(hospital, key.hex)}:
        raise IntegrityError(f"the view of {hospital} speaks for another hospital")
    envelope.require_plain(key)
    view.ledger.require_plain(key)
    seen = SeenView(envelope, view, ledger, _seen_head(view, PublicKey.from_hex(roster.coordinator_key)))
    if index is not None and (passed := index.passed_on(key)) is not None and seen.log_size > passed.position:
        raise IntegrityError(f"{hospital} signed with a key after it had seen that it was passed on")
    return seen


def _seen_head(view: HospitalView, coordinator: PublicKey) -> LogHead | None:
    if view.log is None:
        return None
    head = verified_head(view.log, coordinator)
    view.log.require_plain(coordinator)
    return head
