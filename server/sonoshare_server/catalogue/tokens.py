"""Tokens of the data-use agreement: random, for one release, with an end; only their sha256 is kept.

A token is 32 random bytes, so a plain hash is enough and a stolen database gives nobody access.

``Tokens`` is what the catalogue needs; ``SqlTokens`` keeps them in the catalogue's database.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import sqlalchemy as sa

from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.schema import TOKENS, instant
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

    def granted_since(self, moment: datetime) -> int:
        """How many tokens were granted after a moment, by any server of this catalogue."""

    def allows(self, token: str, release: str, *, now: datetime) -> bool:
        """Whether a token is known, for this release, not revoked and not expired."""

    def expired(self, token: str, release: str, *, now: datetime) -> bool:
        """Whether a token that was for this release, and was not revoked, is past its time."""

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
                sa.insert(TOKENS).values(
                    digest=token_digest(token),
                    release=release,
                    name=name,
                    email=email,
                    purpose=purpose,
                    agreement=agreement,
                    granted=instant(now),
                    expires=instant(expires),
                )
            )
        return Grant(token=token, release=release, expires=expires)

    def granted_since(self, moment: datetime) -> int:
        """How many tokens were granted after a moment, by any server on this database."""
        with self._database.reading() as connection:
            after = sa.select(sa.func.count()).where(TOKENS.c.granted > instant(moment))
            return int(connection.execute(after).scalar_one())

    def allows(self, token: str, release: str, *, now: datetime) -> bool:
        """Whether a token is known, for this release, not revoked and not expired."""
        end = self._end(token, release)
        return end is not None and now < end

    def expired(self, token: str, release: str, *, now: datetime) -> bool:
        """Whether a token that was for this release, and was not revoked, is past its time."""
        end = self._end(token, release)
        return end is not None and now >= end

    def _end(self, token: str, release: str) -> datetime | None:
        """Until when a token for this release is good; None where it is none, or was revoked."""
        if len(token) > _MAX_CHARACTERS:
            return None
        columns = (TOKENS.c.release, TOKENS.c.expires, TOKENS.c.revoked)
        with self._database.reading() as connection:
            found = connection.execute(sa.select(*columns).where(TOKENS.c.digest == token_digest(token))).first()
        if found is None or found.release != release or found.revoked is not None:
            return None
        return datetime.fromisoformat(found.expires)

    def revoke(self, token: str, *, now: datetime) -> bool:
        """End a token; False when it is not known or was revoked before."""
        here = (TOKENS.c.digest == token_digest(token), TOKENS.c.revoked.is_(None))
        with self._database.writing() as connection:
            done = connection.execute(sa.update(TOKENS).where(*here).values(revoked=instant(now)))
        return done.rowcount == 1
