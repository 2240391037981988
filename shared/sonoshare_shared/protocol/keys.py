"""Ed25519 identity keys of hospitals, coordinator and consortium root.

A private key is made where it stays and leaves only as a PEM file (PKCS#8) that its owner alone can read.
A public key is its 32 raw bytes: two keys are the same key exactly when these are equal.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sonoshare_shared.durable import create
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.canonical import sha256_hex

_RAW_KEY_BYTES = 32
FINGERPRINT_CHARACTERS = 16
_BETWEEN_CHARACTERS = re.compile(r"[\s:-]+")
_FINGERPRINT = re.compile(f"[0-9a-f]{{{FINGERPRINT_CHARACTERS}}}")


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key.

    Attributes:
        raw: the 32 bytes of RFC 8032.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != _RAW_KEY_BYTES:
            raise InputError("an Ed25519 public key has 32 bytes", remedy="give its 64 hexadecimal characters")

    @classmethod
    def from_hex(cls, text: str) -> "PublicKey":
        """Read a key from 64 hexadecimal characters."""
        try:
            return cls(bytes.fromhex(text))
        except ValueError as error:
            raise InputError("public key is not hexadecimal", remedy="give its 64 hexadecimal characters") from error

    @property
    def hex(self) -> str:
        """The key as 64 lowercase hexadecimal characters."""
        return self.raw.hex()

    @property
    def fingerprint(self) -> str:
        """The first 16 characters of the key's sha256, for two people to compare on the telephone."""
        return sha256_hex(self.raw)[:FINGERPRINT_CHARACTERS]

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check a signature.

        Raises:
            IntegrityError: the signature is not this key's over these bytes.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except (InvalidSignature, ValueError) as error:
            raise IntegrityError("signature does not verify") from error


def told_fingerprint(text: str) -> str:
    """A fingerprint as a person wrote it down on the telephone, as `PublicKey.fingerprint` has it.

    Capitals, and blanks, colons or hyphens between the characters, mean nothing.

    Raises:
        InputError: it is no fingerprint at all, such as the word in capitals of a document.
    """
    told = _BETWEEN_CHARACTERS.sub("", text).lower()
    if _FINGERPRINT.fullmatch(told) is None:
        raise InputError(
            f"{text[:80]!r} is no fingerprint",
            remedy=f"type the {FINGERPRINT_CHARACTERS} characters, 0 to 9 and a to f, that you are told by telephone",
        )
    return told


class SigningKey:
    """An Ed25519 private key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a fresh key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> "SigningKey":
        """Read a PEM file.

        Raises:
            InputError: the file is missing or holds no Ed25519 private key.
        """
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError as error:
            raise InputError(f"no key file {path.name}", remedy="run the init command first") from error
        except ValueError as error:
            raise InputError(f"{path.name} is not a private key in PEM", remedy="restore it from backup") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise InputError(f"{path.name} is not an Ed25519 key", remedy="restore the identity key")
        return cls(private)

    def save(self, path: Path) -> None:
        """Write the key as PEM with mode 0600; an existing file is never overwritten."""
        pem = self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        create(path, pem, mode=0o600)

    def sign(self, data: bytes) -> bytes:
        """Sign bytes (64-byte signature)."""
        return self._private.sign(data)

    @property
    def public(self) -> PublicKey:
        """The public half."""
        raw = self._private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return PublicKey(raw)
