"""A secret for every pair of hospitals, for one sum: X25519, then HKDF-SHA256 over everything that the sum is.

A hospital makes a fresh key for every round of every study and signs the public half with its identity key. What two
hospitals derive is bound to the study, its plan, the round, both ids, and the digest of the whole set of signed keys:
for another set it is another secret, so that masks of two sets have nothing in common and never cancel.

Promised, as long as X25519 and SHA-256 hold: who has neither private key cannot tell a secret from random bytes, also
when they choose keys of their own, know other pairs' secrets, or name other sets. A public key of small order, which
would make a secret that everybody knows, is refused, and so is a second way to write a key.
Not promised: forward secrecy before the private half is deleted, which its holder must do when the round closes.
Sources: RFC 7748 (6.1, and 7 on small order); RFC 5869; Bonawitz et al. 2017, section 4.
"""

from dataclasses import asdict, dataclass
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.canonical import canonical_bytes

PRIVATE_KEY_BYTES: Final = 32
SECRET_BYTES: Final = 32
_FIELD: Final = (1 << 255) - 19
_USE: Final = "sonoshare pairwise mask v1"


@dataclass(frozen=True)
class Sum:
    """Which sum masks are for.

    Attributes:
        study: the study.
        plan: digest of its plan.
        round: of the study.
        members: digest of the set of signed keys of all who are in the sum.
    """

    study: str
    plan: str
    round: int
    members: str


class EphemeralKey:
    """An X25519 private key for the sums of one round."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> "EphemeralKey":
        """Make a fresh key from the operating system's randomness."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, data: bytes) -> "EphemeralKey":
        """Read a key that was stored.

        Raises:
            IntegrityError: it has not 32 bytes.
        """
        if len(data) != PRIVATE_KEY_BYTES:
            raise IntegrityError("a stored key is damaged", remedy="bring back the newest copy of state/")
        return cls(X25519PrivateKey.from_private_bytes(data))

    @property
    def secret(self) -> bytes:
        """The private half, 32 bytes: for its owner's disk alone."""
        return self._private.private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )

    @property
    def public_hex(self) -> str:
        """The public half as 64 hexadecimal characters."""
        raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        return self._private.public_key().public_bytes(*raw).hex()

    def shared_with(self, public_hex: str, own: str, other: str, what: Sum) -> bytes:
        """The pair's secret for one sum, 32 bytes; the same whichever of the two derives it.

        Args:
            public_hex: the other's public half.
            own: id of the hospital that this key is of.
            other: id of the other hospital.
            what: the sum.

        Raises:
            InputError: both ids are the same.
            IntegrityError: the public half is no key.
        """
        if own == other:
            raise InputError("a hospital has no mask with itself")
        first, second = sorted((own, other))
        info = canonical_bytes({"use": _USE, **asdict(what), "first": first, "second": second})
        return HKDF(SHA256(), SECRET_BYTES, salt=None, info=info).derive(_agreed(self._private, public_hex))


def require_public_key(public_hex: str) -> None:
    """Refuse what is no public key of anybody.

    Raises:
        IntegrityError: not 32 bytes in hexadecimal, of small order, or written in another than the one way.
    """
    _agreed(X25519PrivateKey.generate(), public_hex)


def _agreed(private: X25519PrivateKey, public_hex: str) -> bytes:
    refused = IntegrityError("a key for masks is no key", remedy="leave out the hospital that signed it")
    try:
        raw = bytes.fromhex(public_hex)
        agreed = private.exchange(X25519PublicKey.from_public_bytes(raw))  # refuses a result of zero: small order
    except ValueError as error:
        raise refused from error
    if int.from_bytes(raw, "little") >= _FIELD:  # X25519 would reduce it: a second way to write the same key
        raise refused
    return agreed
