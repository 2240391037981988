"""Passwords: argon2id (RFC 9106) with a salt of its own for each, kept as its PHC string.

19 MiB, two passes, one lane: OWASP's least, which a small server can do for a few people at once; at most
``_AT_ONCE`` are computed at a time. A string that was made with other parameters is checked with those.
"""

import secrets
import threading
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

SHORTEST: Final = 12
LONGEST: Final = 200
_MEMORY_KIB: Final = 19 * 1024
_PASSES: Final = 2
_SALT_BYTES: Final = 16
_KEY_BYTES: Final = 32
_AT_ONCE: Final = 4
NONE: Final = ""
"""What is kept where there is no password: nothing matches it."""
_TURNS: Final = threading.BoundedSemaphore(_AT_ONCE)


def hashed(password: str) -> str:
    """What is kept of a password."""
    kdf = Argon2id(
        salt=secrets.token_bytes(_SALT_BYTES),
        length=_KEY_BYTES,
        iterations=_PASSES,
        lanes=1,
        memory_cost=_MEMORY_KIB,
    )
    with _TURNS:
        return kdf.derive_phc_encoded(password.encode())


def matches(password: str, kept: str | None) -> bool:
    """Whether a password is the one that was kept; takes as long where none was."""
    if kept is None or kept == NONE:
        hashed(password)
        return False
    with _TURNS:
        try:
            Argon2id.verify_phc_encoded(password.encode(), kept)
        except InvalidKey:
            return False
    return True
