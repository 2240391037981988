"""People with an account: an address that was written to, a password, a role.

    sign up ──▶ a link is mailed ──▶ verified ──▶ signed in (a session of twelve hours)

Nobody is told whether an address has an account: the answer is in its mailbox. Of links and sessions the database keeps
the sha256, of passwords what ``passwords`` makes of them. A link works once, for a day. Whoever sets a password anew by
such a link ends all sessions. Roles are given on the coordinator's machine, never over HTTP.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa

from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.passwords import hashed, matches
from sonoshare_server.catalogue.schema import ACCOUNTS, IDENTITIES, LINKS, SESSIONS, instant
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import sha256_hex

Role = Literal["researcher", "auditor", "coordinator"]
Purpose = Literal["verify", "password"]
LINK_LASTS: Final = timedelta(days=1)
SESSION_LASTS: Final = timedelta(hours=12)
_RANDOM_BYTES: Final = 32


@dataclass(frozen=True)
class Account:
    """Somebody.

    Attributes:
        account: identifier, random.
        email: verified when they have signed in.
        name: as they gave it.
        role: what they may see.
    """

    account: str
    email: str
    name: str
    role: Role


class Accounts:
    """Accounts in the catalogue's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sign_up(self, email: str, name: str, password: str, *, now: datetime) -> str | None:
        """Remember somebody who is not verified yet; returns the link to mail, or None where the address is taken.

        Whoever signs up again before the address was verified has the newer name and password.
        """
        email, kept = address_of(email), hashed(password)
        with self._database.writing() as connection:
            known = connection.execute(sa.select(ACCOUNTS).where(ACCOUNTS.c.email == email)).first()
            if known is not None and known.verified is not None:
                return None
            account = secrets.token_hex(16) if known is None else known.account
            values = {"name": name, "password": kept, "created": instant(now)}
            if known is None:
                values |= {"account": account, "email": email, "role": "researcher"}
                connection.execute(sa.insert(ACCOUNTS).values(**values))
            else:
                connection.execute(sa.delete(LINKS).where(LINKS.c.account == account))
                connection.execute(sa.update(ACCOUNTS).where(ACCOUNTS.c.account == account).values(**values))
            return _link(connection, account, "verify", now)

    def forgot(self, email: str, *, now: datetime) -> str | None:
        """The link by which a password is set anew, or None where the address has no verified account."""
        here = (ACCOUNTS.c.email == address_of(email), ACCOUNTS.c.verified.is_not(None))
        with self._database.writing() as connection:
            known = connection.execute(sa.select(ACCOUNTS.c.account).where(*here)).first()
            return None if known is None else _link(connection, known.account, "password", now)

    def verify(self, link: str, password: str, *, now: datetime) -> bool:
        """Take a mailed link; False where it is not known, was used or has expired, or the password is another.

        The password is asked for again, so that nobody verifies an account that somebody else made for their address.
        """
        joined = sa.select(ACCOUNTS.c.password).join(LINKS, LINKS.c.account == ACCOUNTS.c.account)
        with self._database.reading() as connection:
            asked = joined.where(LINKS.c.digest == _digest(link), LINKS.c.purpose == "verify")
            kept = connection.execute(asked).scalar_one_or_none()
        if not matches(password, kept):
            return False
        with self._database.writing() as connection:
            account = _used(connection, link, "verify", now)
            if account is not None:
                here = ACCOUNTS.c.account == account
                connection.execute(sa.update(ACCOUNTS).where(here).values(verified=instant(now)))
        return account is not None

    def set_password(self, link: str, password: str, *, now: datetime) -> bool:
        """Set a password anew; False where the link is not known, was used or has expired.

        Every other way into the account ends: sessions, links, and identities of providers, which whoever had somebody
        else's session may have connected. Their owner connects them again.
        """
        kept = hashed(password)
        with self._database.writing() as connection:
            account = _used(connection, link, "password", now)
            if account is not None:
                here = ACCOUNTS.c.account == account
                connection.execute(sa.update(ACCOUNTS).where(here).values(password=kept))
                for table in (SESSIONS, LINKS, IDENTITIES):
                    connection.execute(sa.delete(table).where(table.c.account == account))
        return account is not None

    def sign_in(self, email: str, password: str, *, now: datetime) -> str | None:
        """A new session's secret, or None: no such account, not verified, or another password; each takes as long."""
        with self._database.reading() as connection:
            known = connection.execute(sa.select(ACCOUNTS).where(ACCOUNTS.c.email == address_of(email))).first()
        right = matches(password, None if known is None else known.password)
        if known is None or not right or known.verified is None:
            return None
        with self._database.writing() as connection:
            return open_session(connection, known.account, now)

    def of_session(self, secret: str, *, now: datetime) -> Account | None:
        """Who is signed in, or None."""
        joined = sa.select(ACCOUNTS).join(SESSIONS, SESSIONS.c.account == ACCOUNTS.c.account)
        here = (SESSIONS.c.digest == _digest(secret), SESSIONS.c.expires > instant(now))
        with self._database.reading() as connection:
            row = connection.execute(joined.where(*here)).first()
        return None if row is None else _account(row)

    def sign_out(self, secret: str) -> None:
        """End a session."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.digest == _digest(secret)))

    def give_role(self, email: str, role: Role) -> None:
        """Let somebody see more, or less.

        Raises:
            InputError: the address has no account.
        """
        with self._database.writing() as connection:
            done = connection.execute(
                sa.update(ACCOUNTS).where(ACCOUNTS.c.email == address_of(email)).values(role=role)
            )
            if done.rowcount != 1:
                raise InputError("no account has this address", remedy="let them sign up first")


def address_of(email: str) -> str:
    """An address as accounts are kept under it: capital letters of ASCII count as small ones, and no others.

    Some letters become ASCII when they are made small (the sign of Kelvin a ``k``): two mailboxes would be one account,
    and the letter for the one would go to the other.
    """
    return email.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def open_session(connection: sa.Connection, account: str, now: datetime) -> str:
    """A new session's secret; what has ended is forgotten."""
    secret = secrets.token_urlsafe(_RANDOM_BYTES)
    connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.expires <= instant(now)))
    connection.execute(sa.delete(LINKS).where(LINKS.c.expires <= instant(now)))
    values = {"digest": _digest(secret), "account": account, "expires": instant(now + SESSION_LASTS)}
    connection.execute(sa.insert(SESSIONS).values(**values))
    return secret


def _link(connection: sa.Connection, account: str, purpose: Purpose, now: datetime) -> str:
    link = secrets.token_urlsafe(_RANDOM_BYTES)
    values = {"digest": _digest(link), "account": account, "purpose": purpose, "expires": instant(now + LINK_LASTS)}
    connection.execute(sa.insert(LINKS).values(**values))
    return link


def _used(connection: sa.Connection, link: str, purpose: Purpose, now: datetime) -> str | None:
    here = (LINKS.c.digest == _digest(link), LINKS.c.purpose == purpose)
    found = connection.execute(sa.select(LINKS.c.account).where(*here, LINKS.c.expires > instant(now))).first()
    # Of two that use it at once one deletes it.
    if found is None or connection.execute(sa.delete(LINKS).where(*here)).rowcount != 1:
        return None
    return str(found.account)


def _account(row: Any) -> Account:
    return Account(account=row.account, email=row.email, name=row.name, role=row.role)


def _digest(secret: str) -> str:
    return sha256_hex(secret.encode("utf-8", "surrogateescape"))
