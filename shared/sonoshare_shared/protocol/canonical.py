"""Canonical bytes and digests: what is hashed and signed is the same everywhere.

Values are serialised by RFC 8785 (JSON Canonicalization Scheme); digests are sha256, written as 64 lowercase
hexadecimal characters. Floats that JSON cannot carry (NaN, infinities) are refused.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

import rfc8785

from sonoshare_shared.errors import InputError, IntegrityError

HEX_DIGEST: Final = r"^[0-9a-f]{64}$"
_CHUNK_BYTES = 1 << 20
_LARGEST_INTEGER = 2**53 - 1


def canonical_bytes(value: object) -> bytes:
    """Serialise a JSON-able value canonically (RFC 8785).

    Raises:
        InputError: the value is not JSON, or holds NaN, an infinity or an integer beyond 2**53.
    """
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type] # it refuses what is not JSON
    except rfc8785.CanonicalizationError as error:
        raise InputError(f"value has no canonical JSON form: {error}") from error


def parsed_json(data: bytes) -> Any:
    """The value of JSON bytes, with numbers as RFC 8785 means them: from 2**53 they are floats.

    Raises:
        ValueError: the bytes are not JSON.
    """
    return json.loads(data, parse_int=_number)


def require_canonical(data: bytes, what: str) -> None:
    """Refuse JSON that is not written in the one way of RFC 8785: no name twice, no room for two readings.

    Raises:
        IntegrityError: it is not.
    """
    try:
        same = canonical_bytes(parsed_json(data)) == data
    except (ValueError, RecursionError, InputError):
        same = False
    if not same:
        raise IntegrityError(f"{what} is not in its canonical form", remedy="check its source")


def _number(text: str) -> int | float:
    value = float(text)
    return int(text) if abs(value) <= _LARGEST_INTEGER else value


def is_digest(text: str) -> bool:
    """Whether a text is written as digests are."""
    return re.fullmatch(HEX_DIGEST[1:-1], text) is not None


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
