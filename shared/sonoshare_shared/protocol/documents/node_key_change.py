"""A hospital's word that its courier has another node key from now on: signed by its identity key.

The new key proves that the hospital holds it, and so does the old one where it is not lost. Both sign
``possession_bytes``, which no key signs for anything else.
"""

import base64
import binascii
from typing import Annotated, Final, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier

NODE_KEY_CHANGE_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.node-key-change+json"
_Line = Annotated[str, Field(max_length=400)]
_Signature = Annotated[str, Field(max_length=400)]


class NodeKeyChange(Document):
    """One change.

    Attributes:
        hospital: whose courier.
        identity_key: its identity key (hex), which signs this.
        old: node key so far, one line of OpenSSH text.
        new: node key from now on.
        new_signature: of the new key over `possession_bytes`, base64.
        old_signature: of the old key over the same; empty where the old key is lost.
    """

    schema_: Literal["sonoshare/node-key-change/v1"] = Field(default="sonoshare/node-key-change/v1", alias="schema")
    hospital: Identifier
    identity_key: HexDigest
    old: _Line
    new: _Line
    new_signature: _Signature
    old_signature: _Signature = ""

    def require_possession(self) -> None:
        """Check the node keys' own signatures.

        Raises:
            IntegrityError: the new key did not sign, or an old signature is none.
        """
        said = possession_bytes(self.hospital, self.old, self.new)
        require_possessed(self.new, self.new_signature, said)
        if self.old_signature:
            require_possessed(self.old, self.old_signature, said)


def possession_bytes(hospital: str, old: str, new: str) -> bytes:
    """What both node keys sign."""
    return f"sonoshare node key change\n{hospital}\n{old}\n{new}\n".encode()


def possession_signature(key: ec.EllipticCurvePrivateKey, said: bytes) -> str:
    """A node key's signature, base64."""
    return base64.b64encode(key.sign(said, ec.ECDSA(hashes.SHA256()))).decode()


def require_possessed(line: str, signature: str, said: bytes) -> None:
    """Check that whoever holds a node key has signed with it.

    Args:
        line: its public half, one line of OpenSSH text.
        signature: as `possession_signature` made it.
        said: what was signed.

    Raises:
        IntegrityError: it is no node key, or did not sign.
    """
    try:
        key = serialization.load_ssh_public_key(line.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise IntegrityError("a node key is on no elliptic curve")
        key.verify(base64.b64decode(signature, validate=True), said, ec.ECDSA(hashes.SHA256()))
    except (ValueError, binascii.Error, UnsupportedAlgorithm, InvalidSignature) as error:
        raise IntegrityError("a node key did not sign the file that names it", remedy="make the file again") from error
