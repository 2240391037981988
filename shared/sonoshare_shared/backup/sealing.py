"""A stream that is encrypted under a passphrase, chunk by chunk, so that it never has to fit into the memory.

    sonoshare-backup-1
    {"cost": 17, "kind": "hospital", "salt": "9f2c..."}
    chunk, chunk, ... the last chunk

The key is scrypt (RFC 7914, r = 8, p = 1, N = 2**cost) of the passphrase and a fresh salt, so no two archives share
one. A chunk is AES-256-GCM of 1 MiB, of less where it is the last. Its nonce is its number and whether it is the last,
and the two lines above it are its associated data: chunks that were changed, moved, left out, added or cut off do not
open (the STREAM construction).

Not promised: that a short passphrase holds. Whoever has the archive may try as many as they like.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sonoshare_shared.errors import InputError, IntegrityError

COST: Final = 17
"""128 MiB of memory and a few tenths of a second for each passphrase that is tried."""
LEAST_CHARACTERS: Final = 12
_COSTS: Final = range(14, 21)
_MAGIC: Final = b"sonoshare-backup-1\n"
_MOST_HEADER_BYTES: Final = 1024
_CHUNK_BYTES: Final = 1 << 20
_TAG_BYTES: Final = 16
_SALT_BYTES: Final = 16


@dataclass(frozen=True)
class Header:
    """What stands before the chunks, in the clear.

    Attributes:
        kind: whose folder it is, ``hospital`` or ``coordinator``.
        salt: of the key, hexadecimal.
        cost: logarithm of scrypt's N to base 2.
    """

    kind: str
    salt: str
    cost: int

    @property
    def line(self) -> bytes:
        """The header as it is written, which every chunk is bound to."""
        said = {"cost": self.cost, "kind": self.kind, "salt": self.salt}
        return _MAGIC + json.dumps(said, sort_keys=True).encode() + b"\n"

    def cipher(self, passphrase: str) -> AESGCM:
        """The cipher of a passphrase."""
        scrypt = Scrypt(salt=bytes.fromhex(self.salt), length=32, n=1 << self.cost, r=8, p=1)
        return AESGCM(scrypt.derive(passphrase.encode()))


def read_passphrase(path: Path) -> str:
    """Read a passphrase from the first line of a file.

    Raises:
        InputError: the file is open to other users, or the passphrase is short.
    """
    if path.is_file() and path.stat().st_mode & 0o077 and not _given_by_systemd(path):
        raise InputError("other users may read the passphrase file", remedy=f"chmod 600 {path.name}")
    with path.open(encoding="utf-8") as file:
        return checked_passphrase(file.readline().rstrip("\r\n"))


def _given_by_systemd(path: Path) -> bool:
    """Whether it is a credential of this service: systemd may let its user read it by an ACL.

    The bits of the group are then the ACL's mask (0440), and say nothing of the group; the folder is the service's.
    """
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return given is not None and path.absolute().parent == Path(given)


def checked_passphrase(passphrase: str) -> str:
    """The passphrase itself.

    Raises:
        InputError: it is short.
    """
    if len(passphrase) < LEAST_CHARACTERS:
        raise InputError(
            f"a passphrase has {LEAST_CHARACTERS} characters or more",
            remedy="take six random words; write them down",
        )
    return passphrase


def fresh_header(kind: str, cost: int = COST) -> Header:
    """A header with a salt of its own."""
    return Header(kind, os.urandom(_SALT_BYTES).hex(), cost)


def seal(plain: Iterable[bytes], header: Header, cipher: AESGCM) -> Iterator[bytes]:
    """Encrypt a stream.

    Args:
        plain: its parts, of any length.
        header: what it begins with.
        cipher: of that header.

    Yields:
        The parts of the archive.
    """
    yield header.line
    waiting, number = bytearray(), 0
    for part in plain:
        waiting += part
        while len(waiting) > _CHUNK_BYTES:  # never all: which chunk is the last shows at the end
            yield cipher.encrypt(_nonce(number, last=False), bytes(waiting[:_CHUNK_BYTES]), header.line)
            del waiting[:_CHUNK_BYTES]
            number += 1
    yield cipher.encrypt(_nonce(number, last=True), bytes(waiting), header.line)


def read_header(file: BinaryIO, kind: str) -> Header:
    """Read what stands before the chunks.

    Raises:
        IntegrityError: it is no backup.
        InputError: it is one of another role.
    """
    broken = IntegrityError("this is no backup of SonoShare, or it is damaged", remedy="take another copy of it")
    if file.read(len(_MAGIC)) != _MAGIC:
        raise broken
    text = file.readline(_MOST_HEADER_BYTES)
    try:
        said = json.loads(text)
        header = Header(kind=str(said["kind"]), salt=str(said["salt"]), cost=int(said["cost"]))
    except (ValueError, KeyError, TypeError) as error:
        raise broken from error
    if header.cost not in _COSTS or not re.fullmatch(rf"[0-9a-f]{{{2 * _SALT_BYTES}}}", header.salt):
        raise broken
    if header.line != _MAGIC + text:
        raise broken
    if header.kind != kind:
        raise InputError(f"this is a backup of a {header.kind}", remedy=f"run: sonoshare {header.kind} restore")
    return header


def unseal(file: BinaryIO, header: Header, cipher: AESGCM) -> Iterator[bytes]:
    """Decrypt the chunks of an archive, each checked before it is given; the end is reached only if it is the end.

    Raises:
        IntegrityError: the passphrase is another, or the archive was changed or cut.
    """
    number, sealed = 0, file.read(_CHUNK_BYTES + _TAG_BYTES)
    while True:
        following = file.read(_CHUNK_BYTES + _TAG_BYTES)
        try:
            yield cipher.decrypt(_nonce(number, last=not following), sealed, header.line)
        except (InvalidTag, ValueError) as error:
            cause = "the archive was changed or cut" if number else "another passphrase, or the archive was changed"
            raise IntegrityError(
                f"the backup does not open: {cause}", remedy="give its passphrase, or another copy of it"
            ) from error
        if not following:
            return
        sealed, number = following, number + 1


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
