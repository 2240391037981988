"""Tokens of the data-use agreement: random, for one release, with an end; only their sha256 is kept.

A token is 32 random bytes, so a plain hash is enough and a stolen database gives nobody access.

``Tokens`` is what the catalogue needs; ``SqlTokens`` keeps them in the catalogue's database.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from sonoshare_server.catalogue.database import Database
from sonoshare_shared.protocol.canonical import sha256_hex

PREFIX: Final = "sonoshare_"
_RANDOM_BYTES: Final = 32
_MAX_CHARACTERS: Final = 200


@dataclass(frozen=True)
class Grant:
    """A token, shown once, and when it ends."""

    token: str
    release: str
    expires: datetime


class Tokens(Protocol):
    """Tokens of one catalogue."""

    def grant(
        self, release: str, *, name: str, email: str, purpose: str, agreement: str, now: datetime, lifetime: timedelta
    ) -> Grant:
        """Record that somebody accepted the agreement, and make their token."""

    def allows(self, token: str, release: str, *, now: datetime) -> bool:
        """Whether a token is known, for this release, not revoked and not expired."""

    def revoke(self, token: str, *, now: datetime) -> bool:
        """End a token; False when it is not known or was revoked before."""


def fresh_token() -> str:
    """A token that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def token_digest(token: str) -> str:
    """What is kept of a token."""
    return sha256_hex(token.encode("utf-8", "surrogateescape"))


class SqlTokens:
    """Tokens in the catalogue's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def grant(
        self, release: str, *, name: str, email: str, purpose: str, agreement: str, now: datetime, lifetime: timedelta
    ) -> Grant:
        """Record that somebody accepted the agreement, and make their token."""
        token = fresh_token()
        expires = now + lifetime
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (token_digest(token), release, name, email, purpose, agreement, now.isoformat(), expires.isoformat()),
            )
        return Grant(token=token, release=release, expires=expires)

    def allows(self, token: str, release: str, *, now: datetime) -> bool:
        """Whether a token is known, for this release, not revoked and not expired."""
        if len(token) > _MAX_CHARACTERS:
            return False
        rows = self._database.rows("SELECT release, expires, revoked FROM tokens WHERE digest = ?", token_digest(token))
        return bool(rows) and (
            rows[0]["release"] == release
            and rows[0]["revoked"] is None
            and now < datetime.fromisoformat(rows[0]["expires"])
        )

    def revoke(self, token: str, *, now: datetime) -> bool:
        """End a token; False when it is not known or was revoked before."""
        with self._database.writing() as connection:
            done = connection.execute(
                "UPDATE tokens SET revoked = ? WHERE digest = ? AND revoked IS NULL",
                (now.isoformat(), token_digest(token)),
            )
        return done.rowcount == 1
