"""A signed document: its parsed view beside the very bytes that were signed.

Promise: whoever holds a ``Signed[T]`` got it from ``opened``: the envelope's signature is the given key's over ``data``
under the payload type, ``data`` is canonical JSON, and ``document`` is what it says. Digests are of ``data``.
Not promised: that the signer may say this. Whether the key is a member's, and the document about the right thing, is
for the caller to check.
"""

from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from sonoshare_shared.protocol.canonical import require_canonical, sha256_hex
from sonoshare_shared.protocol.documents.base import Document
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey

T = TypeVar("T", bound=Document)


@dataclass(frozen=True)
class Signed(Generic[T]):
    """A document whose signature was checked.

    Attributes:
        document: what it says.
        data: exactly what was signed.
    """

    document: T
    data: bytes

    @property
    def digest(self) -> str:
        """Sha256 of the signed bytes, 64 hexadecimal characters."""
        return sha256_hex(self.data)

    @classmethod
    def opened(cls, kind: type[T], envelope: Envelope, key: PublicKey, payload_type: str) -> Self:
        """Check an envelope's signature, then parse what was signed.

        Args:
            kind: the document.
            envelope: as it was received.
            key: of the signer.
            payload_type: that was signed with it.

        Raises:
            VerificationError: cause ``payload-type`` or ``signature``.
            NewerVersionError: it holds what only a newer version of SonoShare knows.
            IntegrityError: the payload is not this document, or not canonical JSON.
        """
        data = envelope.verify(key, payload_type)
        document = kind.from_bytes(data)
        require_canonical(data, f"the signed {kind.__name__}")
        return cls(document, data)
