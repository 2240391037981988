"""Sealing of what the vault stores: AES-256-GCM under one key that never leaves the hospital.

- A sealed value is ``nonce (12 bytes) | ciphertext | tag (16 bytes)``; the nonce is fresh randomness for every
  sealing (NIST SP 800-38D, 8.2.2: fewer than 2**32 values under one key).
- The *place* of a value (blob id, pseudonym) is associated data: a sealed value moved elsewhere does not open.
- The vault key file (32 random bytes, mode 0600) is never used itself: one key for each use is derived from it
  by HKDF-SHA256, so that a pseudonym tells nothing about the key of the pixels.

Not promised: protection from whoever can read the key file. Keep it under another OS user, or on another volume.
"""

import hashlib
import hmac
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sonoshare_shared.durable import create
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.science.identifiers import normal

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_OTHERS_MAY: Final = stat.S_IRWXG | stat.S_IRWXO


def make_key_file(path: Path) -> None:
    """Write a fresh vault key, mode 0600; an existing file is never overwritten.

    Raises:
        FileExistsError: there is a key already.
    """
    create(path, os.urandom(KEY_BYTES), mode=0o600)


def read_key_file(path: Path) -> bytes:
    """Read the vault key.

    Raises:
        InputError: missing, of the wrong size, or open to other users.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(KEY_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError("the vault key is missing", remedy="restore the key file named in home.toml") from error
    except PermissionError as error:
        raise InputError("the vault key may not be read", remedy="run as the user who owns the key file") from error
    if mode & _OTHERS_MAY:
        raise InputError("other users may read the vault key", remedy="chmod 600 the key file")
    if len(key) != KEY_BYTES:
        raise InputError("the vault key file has not 32 bytes", remedy="restore it from backup")
    return key


def _derive(key: bytes, use: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"sonoshare vault v1: {use}".encode()).derive(key)


@dataclass(frozen=True)
class VaultKeys:
    """The keys of a vault, one for each use.

    Attributes:
        key: the vault key, 32 bytes.
    """

    key: bytes = field(repr=False)
    _cipher: AESGCM = field(init=False, repr=False, compare=False)
    _names: bytes = field(init=False, repr=False, compare=False)
    _split: bytes = field(init=False, repr=False, compare=False)
    _prints: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cipher", AESGCM(_derive(self.key, "seal")))
        object.__setattr__(self, "_names", _derive(self.key, "pseudonym"))
        object.__setattr__(self, "_split", _derive(self.key, "held out"))
        object.__setattr__(self, "_prints", _derive(self.key, "fingerprint"))

    def seal(self, plain: bytes, place: str) -> bytes:
        """Encrypt bytes for one place."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Decrypt what was sealed for this place.

        Raises:
            IntegrityError: changed, cut short, of another key or from another place.
        """
        if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
            raise IntegrityError("a blob of the vault is cut short", remedy="restore the vault from backup")
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except InvalidTag as error:
            raise IntegrityError(
                "a blob of the vault does not open", remedy="restore the vault and its key from the same backup"
            ) from error

    def pseudonym(self, patient: str) -> str:
        """Keyed pseudonym of a patient: 64 hexadecimal characters (HMAC-SHA256), the same for one `normal` form."""
        return self._pseudonym(normal(patient))

    def former_pseudonym(self, patient: str) -> str:
        """The pseudonym that vaults gave before identifiers had one Unicode form; mostly the same."""
        return self._pseudonym(patient.strip())

    def _pseudonym(self, identifier: str) -> str:
        return hmac.new(self._names, identifier.encode(), hashlib.sha256).hexdigest()

    def fingerprint(self, kind: str, data: bytes) -> str:
        """Keyed fingerprint (HMAC-SHA256): tells equal from unequal, and nothing to who has no key."""
        return hmac.new(self._prints, kind.encode() + b"\0" + data, hashlib.sha256).hexdigest()

    def held_out(self, pseudonym: str, fraction: float) -> bool:
        """Whether a patient is held out: a keyed, fixed coin with the public probability ``fraction``."""
        coin = hmac.new(self._split, pseudonym.encode(), hashlib.sha256).digest()
        return int.from_bytes(coin[:8], "big") < fraction * 2**64
