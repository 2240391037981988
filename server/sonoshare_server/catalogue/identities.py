"""Which account somebody has who comes from a provider. Nobody gets another's account by what a provider says.

1. Issuer and subject were seen before: that account, whatever address the provider names today.
2. Else, where the provider says that the address was verified, and the coordinator named its domain for this provider:
   the account of that address, or a new one. If somebody signed up with that address and never verified it, their
   password and their links end: whoever made an account for another's address keeps no way into it.
3. Else nobody: they sign in with a password first, and connect the provider from their account's page.

Roles never come from a provider: a new account is a researcher's, and an account keeps the role it has.
"""

import secrets
from datetime import datetime

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from sonoshare_server.catalogue.accounts import Account, address_of, open_session
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.documents import Email
from sonoshare_server.catalogue.oidc import Claimed
from sonoshare_server.catalogue.passwords import NONE
from sonoshare_server.catalogue.providers import Provider
from sonoshare_server.catalogue.schema import ACCOUNTS, IDENTITIES, LINKS, SESSIONS, instant

_EMAIL: TypeAdapter[str] = TypeAdapter(Email)


class Identities:
    """Identities of accounts in the catalogue's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enter(self, claimed: Claimed, provider: Provider, *, now: datetime) -> str | None:
        """A new session's secret, or None where this is nobody's identity (rule 3)."""
        try:
            return self._enter(claimed, provider, now)
        except sa.exc.IntegrityError:  # somebody came first at another server: now they are known
            return self._enter(claimed, provider, now)

    def _enter(self, claimed: Claimed, provider: Provider, now: datetime) -> str | None:
        with self._database.writing() as connection:
            account = _of(connection, claimed)
            if account is None:
                email = _believed(claimed, provider)
                if email is None:
                    return None
                account = _of_address(connection, email, claimed.name, now)
                _keep(connection, claimed, account, now)
            return open_session(connection, account, now)

    def connect(self, account: Account, claimed: Claimed, *, now: datetime) -> bool:
        """Let an identity open somebody's account too; False where it opens another's."""
        with self._database.writing() as connection:
            known = _of(connection, claimed)
            if known is None:
                _keep(connection, claimed, account.account, now)
        return known in {None, account.account}

    def of(self, account: Account) -> list[tuple[str, str]]:
        """Issuer and subject of each that opens an account."""
        asked = sa.select(IDENTITIES.c.issuer, IDENTITIES.c.subject).where(IDENTITIES.c.account == account.account)
        with self._database.reading() as connection:
            return [(row.issuer, row.subject) for row in connection.execute(asked.order_by(*asked.selected_columns))]


def _of(connection: sa.Connection, claimed: Claimed) -> str | None:
    here = (IDENTITIES.c.issuer == claimed.issuer, IDENTITIES.c.subject == claimed.subject)
    return connection.execute(sa.select(IDENTITIES.c.account).where(*here)).scalar_one_or_none()


def _believed(claimed: Claimed, provider: Provider) -> str | None:
    """The address that is taken for theirs, or None."""
    if claimed.email is None or not claimed.email_verified or not provider.believed(claimed.email):
        return None
    try:
        return address_of(_EMAIL.validate_python(claimed.email))
    except ValidationError:
        return None


def _of_address(connection: sa.Connection, email: str, name: str, now: datetime) -> str:
    known = connection.execute(sa.select(ACCOUNTS).where(ACCOUNTS.c.email == email)).first()
    if known is None:
        account = secrets.token_hex(16)
        values = {"account": account, "email": email, "role": "researcher", "created": instant(now)}
        values |= {"name": name or email, "password": NONE, "verified": instant(now)}
        connection.execute(sa.insert(ACCOUNTS).values(**values))
        return account
    account = str(known.account)
    if known.verified is None:
        for table in (LINKS, SESSIONS):
            connection.execute(sa.delete(table).where(table.c.account == account))
        values = {"name": name or email, "password": NONE, "verified": instant(now)}
        connection.execute(sa.update(ACCOUNTS).where(ACCOUNTS.c.account == account).values(**values))
    return account


def _keep(connection: sa.Connection, claimed: Claimed, account: str, now: datetime) -> None:
    values = {"issuer": claimed.issuer, "subject": claimed.subject, "account": account, "created": instant(now)}
    connection.execute(sa.insert(IDENTITIES).values(**values))
