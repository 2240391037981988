"""The access log: on which day which token read data of which release. No hour, no file, no address.

One entry a day, token and release, so that a download of many files is one entry, made before its first byte is given.
A coordinator exports it with names; an auditor with tokens in their place.
"""

import contextlib
import csv
import io
from collections import OrderedDict
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.own_tokens import ID_CHARACTERS
from sonoshare_server.catalogue.schema import ACCESSES, TOKENS
from sonoshare_server.catalogue.tokens import token_digest
from sonoshare_shared.protocol.documents.base import public_day

_MOST_REMEMBERED: Final = 10_000
_COLUMNS: Final = ("day", "release", "token", "agreement", "name", "email", "purpose")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Accesses:
    """The access log in the catalogue's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # What stands in the database already, so that not every file asks it.
        self._noted: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    def note(self, token: str, release: str, *, now: datetime) -> None:
        """Note that a token reads data of a release."""
        entry = (public_day(now).date().isoformat(), token_digest(token), release)
        if entry in self._noted:
            return
        day, digest, _ = entry
        here = (ACCESSES.c.day == day, ACCESSES.c.token == digest, ACCESSES.c.release == release)
        # Another server may note it at the same moment.
        with contextlib.suppress(sa.exc.IntegrityError), self._database.writing() as connection:
            if connection.execute(sa.select(ACCESSES.c.day).where(*here)).first() is None:
                connection.execute(sa.insert(ACCESSES).values(day=day, token=digest, release=release))
        self._noted[entry] = None
        if len(self._noted) > _MOST_REMEMBERED:
            self._noted.popitem(last=False)

    def exported(self, *, names: bool) -> str:
        """The whole log as CSV, oldest day first.

        Args:
            names: with name, address and purpose of whom the token was granted to.
        """
        whose = (TOKENS.c.agreement, TOKENS.c.name, TOKENS.c.email, TOKENS.c.purpose)
        joined = sa.select(ACCESSES, *whose).join(TOKENS, TOKENS.c.digest == ACCESSES.c.token)
        order = (ACCESSES.c.day, ACCESSES.c.release, ACCESSES.c.token)
        columns = _COLUMNS if names else _COLUMNS[:4]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(columns)
        with self._database.reading() as connection:
            for row in connection.execute(joined.order_by(*order)):
                said = {
                    "day": row.day,
                    "release": row.release,
                    "token": row.token[:ID_CHARACTERS],
                    "agreement": row.agreement,
                    "name": row.name,
                    "email": row.email,
                    "purpose": row.purpose,
                }
                writer.writerow([_harmless(said[column]) for column in columns])
        return text.getvalue()


def _harmless(text: str) -> str:
    """A spreadsheet takes no cell for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
