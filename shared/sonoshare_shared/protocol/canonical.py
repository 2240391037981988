"""Canonical bytes and digests: what is hashed and signed is the same everywhere.

Values are serialised by RFC 8785 (JSON Canonicalization Scheme); digests are sha256, written as 64 lowercase
hexadecimal characters. Floats that JSON cannot carry (NaN, infinities) are refused.
"""

import hashlib
import re
from pathlib import Path

import rfc8785

from sonoshare_shared.errors import InputError

HEX_DIGEST = re.compile(r"^[0-9a-f]{64}$")
_CHUNK_BYTES = 1 << 20


def canonical_bytes(value: object) -> bytes:
    """Serialise a JSON-able value canonically (RFC 8785).

    Raises:
        InputError: the value is not JSON, or holds NaN, an infinity or an integer beyond 2**53.
    """
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except rfc8785.CanonicalizationError as error:
        raise InputError(f"value has no canonical JSON form: {error}") from error


def sha256_hex(data: bytes) -> str:
    """Digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Digest of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()
