"""All that accounts need: who there is, their tokens, the access log, letters, and the address that letters name."""

from dataclasses import dataclass

from sonoshare_server.catalogue.accesses import Accesses
from sonoshare_server.catalogue.accounts import Accounts
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.identities import Identities
from sonoshare_server.catalogue.mail import Mailer
from sonoshare_server.catalogue.own_tokens import OwnTokens
from sonoshare_shared.errors import InputError


@dataclass(frozen=True)
class People:
    """Accounts of one catalogue.

    Attributes:
        accounts: who there is.
        tokens: theirs.
        identities: by which of them providers open accounts.
        accesses: when which token read data.
        mailer: sends letters.
        address: the catalogue's own, as people type it: ``https://catalogue.example.org``.
    """

    accounts: Accounts
    tokens: OwnTokens
    identities: Identities
    accesses: Accesses
    mailer: Mailer
    address: str

    @classmethod
    def over(cls, database: Database, mailer: Mailer, address: str) -> "People":
        """Accounts in a database.

        Raises:
            InputError: the address is none.
        """
        if not address.startswith(("https://", "http://127.0.0.1", "http://localhost")):
            raise InputError(
                "the catalogue's own address is needed for links in mails",
                remedy="set SONOSHARE_CATALOGUE_URL=https://HOST",
            )
        return cls(
            Accounts(database),
            OwnTokens(database),
            Identities(database),
            Accesses(database),
            mailer,
            address.rstrip("/"),
        )
