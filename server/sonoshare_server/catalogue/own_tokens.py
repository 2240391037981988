"""Tokens of somebody with an account: made by a click on the agreement, listed and ended by their owner alone.

A token has its scope (one release), an end that its owner chooses within the catalogue's lifetime, and a label. It is
shown once; afterwards it is known by the first characters of its digest.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from sonoshare_server.catalogue.accounts import Account
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.schema import TOKENS, instant
from sonoshare_server.catalogue.tokens import Grant, fresh_token, token_digest

ID_CHARACTERS: Final = 16
_MOST_LISTED: Final = 500


@dataclass(frozen=True)
class OwnToken:
    """What its owner sees of a token.

    Attributes:
        token: the first characters of its digest.
        label: as its owner called it.
        release: what it opens.
        granted: when.
        expires: when it ends.
        state: valid, expired or revoked.
    """

    token: str
    label: str
    release: str
    granted: datetime
    expires: datetime
    state: str


class OwnTokens:
    """Tokens of accounts in the catalogue's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def grant(
        self,
        owner: Account,
        release: str,
        *,
        label: str,
        purpose: str,
        agreement: str,
        now: datetime,
        lifetime: timedelta,
    ) -> Grant:
        """Record that somebody accepted the agreement, and make their token."""
        grant = Grant(token=fresh_token(), release=release, expires=now + lifetime)
        with self._database.writing() as connection:
            connection.execute(
                sa.insert(TOKENS).values(
                    digest=token_digest(grant.token),
                    release=release,
                    name=owner.name,
                    email=owner.email,
                    purpose=purpose,
                    agreement=agreement,
                    granted=instant(now),
                    expires=instant(grant.expires),
                    account=owner.account,
                    label=label,
                )
            )
        return grant

    def of(self, owner: Account, *, now: datetime) -> list[OwnToken]:
        """Somebody's tokens, newest first."""
        mine = sa.select(TOKENS).where(TOKENS.c.account == owner.account).order_by(TOKENS.c.granted.desc())
        with self._database.reading() as connection:
            rows = connection.execute(mine.limit(_MOST_LISTED)).all()
        return [
            OwnToken(
                token=row.digest[:ID_CHARACTERS],
                label=row.label,
                release=row.release,
                granted=datetime.fromisoformat(row.granted),
                expires=datetime.fromisoformat(row.expires),
                state="revoked" if row.revoked else "expired" if row.expires <= instant(now) else "valid",
            )
            for row in rows
        ]

    def revoke(self, owner: Account, token: str, *, now: datetime) -> bool:
        """End one of somebody's own tokens; False where they have none of that name."""
        here = (
            TOKENS.c.account == owner.account,
            sa.func.substr(TOKENS.c.digest, 1, ID_CHARACTERS) == token,
            TOKENS.c.revoked.is_(None),
        )
        with self._database.writing() as connection:
            return connection.execute(sa.update(TOKENS).where(*here).values(revoked=instant(now))).rowcount > 0
