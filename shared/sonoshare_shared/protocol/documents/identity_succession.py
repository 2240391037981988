"""A hospital's word that its ledger goes on under another identity key: signed by the old key and by the new one.

It names how far the ledger had come, as the old key signed it, so the new key vouches for that ledger too. The
coordinator logs it before any roster names the new key; what follows from it is in ``protocol.key_lines``. It says
nothing of a patient: two public keys, a hospital's id, and a ledger head as every view has one.
"""

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.canonical import require_canonical
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier
from sonoshare_shared.protocol.documents.view import LEDGER_HEAD_PAYLOAD_TYPE, LedgerHead
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey
from sonoshare_shared.protocol.signed import Signed

SUCCESSION_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.identity-succession+json"


class IdentitySuccession(Document):
    """One change of an identity key.

    Attributes:
        hospital: whose.
        old: identity key so far (hex).
        new: identity key from now on (hex); a key that nobody has used.
        ledger: signed head of the ledger when this was made (envelope of ``LedgerHead`` by the old key).
    """

    schema_: Literal["sonoshare/identity-succession/v1"] = Field(
        default="sonoshare/identity-succession/v1", alias="schema"
    )
    hospital: Identifier
    old: HexDigest
    new: HexDigest
    ledger: Envelope

    @model_validator(mode="after")
    def _another_key(self) -> Self:
        if self.old == self.new:
            raise ValueError("a key cannot follow itself")
        return self

    @property
    def old_key(self) -> PublicKey:
        """The key so far."""
        return PublicKey.from_hex(self.old)

    @property
    def new_key(self) -> PublicKey:
        """The key from now on."""
        return PublicKey.from_hex(self.new)

    def signed(self, old: SigningKey, new: SigningKey) -> Envelope:
        """Signed by both."""
        return Envelope.sign(SUCCESSION_PAYLOAD_TYPE, self.canonical(), old).countersigned(new)


def opened_succession(envelope: Envelope) -> tuple[Signed[IdentitySuccession], LedgerHead]:
    """Check that both keys that a succession names have signed it, and that the old one signed the ledger head in it.

    Returns:
        What it says, and the ledger head.

    Raises:
        VerificationError: a signature is missing or another's, or there is more than the two.
        NewerVersionError: it holds what only a newer version of SonoShare knows.
        IntegrityError: it is no succession, or speaks for two hospitals.
    """
    said = IdentitySuccession.from_bytes(envelope.decoded())
    envelope.verify(said.old_key, SUCCESSION_PAYLOAD_TYPE)
    data = envelope.verify(said.new_key, SUCCESSION_PAYLOAD_TYPE)
    require_canonical(data, "the succession of an identity key")
    envelope.require_plain(said.old_key, said.new_key)
    head = Signed.opened(LedgerHead, said.ledger, said.old_key, LEDGER_HEAD_PAYLOAD_TYPE).document
    said.ledger.require_plain(said.old_key)
    if (head.hospital, head.identity_key) != (said.hospital, said.old):
        raise IntegrityError("the ledger in the succession is another hospital's")
    return Signed(said, data), head
