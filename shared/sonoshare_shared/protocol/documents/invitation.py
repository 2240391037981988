"""An invitation into a consortium, and the request that answers it: two files, by mail or on a stick.

    coordinator                       hospital
    invite: west-invitation.json  ->  join: makes its keys, pins the root key
    admit: a person compares the  <-  west-request.json: public keys, signed by the code and by both keys
    fingerprint by telephone

The invitation holds a one-time code, which is the seed of an Ed25519 key. The coordinator keeps the public half alone,
and the request is signed by the code without containing it: who reads a request, or the coordinator's folder, cannot
answer for the hospital. Who reads the *invitation* can; that is why a person compares the fingerprint.

Promise: an opened invitation was signed by the coordinator that it names, and where it has a roster, that roster's root
key names that coordinator. An opened request was signed by the code, by its identity key and by its node key.
Not promised: that the root key is the consortium's. It comes with the rest of the file, and is compared by telephone.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import AwareDatetime, Field

from sonoshare_shared.errors import InputError, VerificationError
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.documents.node_key_change import require_possessed
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE, Roster
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey
from sonoshare_shared.protocol.signed import Signed

INVITATION_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.invitation+json"
JOIN_REQUEST_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.join-request+json"
_ALTERED: Final = "ask the coordinator for a new one: sonoshare coordinator invite"


class Invitation(Document):
    """What a hospital needs to know of a consortium.

    Attributes:
        consortium: its name.
        hospital: the id that the hospital will have.
        superlink: ``host:port`` of the coordinator's fleet listener.
        authority: certificate of the authority that signs the coordinator's TLS certificates (PEM).
        root_key: the consortium's root key (hex).
        coordinator_key: key of the coordinator, which signs this (hex).
        roster: the signed roster of now, one line of JSON; None before the first admission.
        code: 32 random bytes (hex), used once. Secret.
        expires: after this moment no request is taken.
    """

    schema_: Literal["sonoshare/invitation/v1"] = Field(default="sonoshare/invitation/v1", alias="schema")
    consortium: Identifier
    hospital: Identifier
    superlink: Annotated[str, Field(max_length=300)]
    authority: Annotated[str, Field(max_length=20_000)]
    root_key: HexDigest
    coordinator_key: HexDigest
    roster: Annotated[str, Field(max_length=1 << 20)] | None = added()
    code: HexDigest
    expires: AwareDatetime

    @property
    def code_key(self) -> SigningKey:
        """The key whose seed the code is."""
        return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.code)))

    def expired(self, now: datetime) -> bool:
        """Whether it is too late."""
        return now >= self.expires

    @classmethod
    def opened(cls, envelope: Envelope) -> Self:
        """Check an invitation's signatures.

        Raises:
            VerificationError: it is none, was changed, or its roster is not of the root key and coordinator it names.
        """
        hinted = envelope.signatures[0].keyid if envelope.signatures else ""
        try:
            key = PublicKey(bytes.fromhex(hinted))
        except (ValueError, InputError) as error:
            raise VerificationError("invitation", "this is no invitation", remedy=_ALTERED) from error
        said = Signed.opened(cls, envelope, key, INVITATION_PAYLOAD_TYPE).document
        if said.coordinator_key != key.hex:
            raise VerificationError("invitation", "the invitation is signed by another key than its coordinator's")
        if said.roster is not None:
            line = Envelope.from_bytes(said.roster.encode())
            roster = Signed.opened(Roster, line, PublicKey.from_hex(said.root_key), ROSTER_PAYLOAD_TYPE).document
            if (roster.coordinator_key, roster.consortium) != (said.coordinator_key, said.consortium):
                raise VerificationError(
                    "invitation", "the invitation's roster is of another coordinator", remedy=_ALTERED
                )
        return said


class JoinRequest(Document):
    """A hospital's public keys, for the coordinator to admit.

    Attributes:
        consortium: that it asks to join.
        root_key: that it has pinned (hex).
        hospital: its id.
        identity_key: its identity key (hex), which signs this beside the code.
        node_key: its courier's public key, one line of OpenSSH text.
        node_signature: of the node key over `join_bytes`, base64.
    """

    schema_: Literal["sonoshare/join-request/v1"] = Field(default="sonoshare/join-request/v1", alias="schema")
    consortium: Identifier
    root_key: HexDigest
    hospital: Identifier
    identity_key: HexDigest
    node_key: Annotated[str, Field(max_length=400)]
    node_signature: Annotated[str, Field(max_length=400)]

    @property
    def fingerprint(self) -> str:
        """Of the identity key, for two people to compare on the telephone; it vouches for the node key too."""
        return PublicKey.from_hex(self.identity_key).fingerprint

    @classmethod
    def opened(cls, envelope: Envelope, code: PublicKey) -> Self:
        """Check a request's three signatures.

        Args:
            envelope: as it came.
            code: public half of the invitation's code.

        Raises:
            IntegrityError: one of them is not there.
        """
        said = Signed.opened(cls, envelope, code, JOIN_REQUEST_PAYLOAD_TYPE).document
        identity = PublicKey.from_hex(said.identity_key)
        envelope.verify(identity, JOIN_REQUEST_PAYLOAD_TYPE)
        envelope.require_plain(code, identity)
        require_possessed(said.node_key, said.node_signature, join_bytes(said.hospital, said.identity_key))
        return said


def join_bytes(hospital: str, identity_key: str) -> bytes:
    """What the node key signs: whose courier it is."""
    return f"sonoshare join\n{hospital}\n{identity_key}\n".encode()
