"""The tables of the catalogue's database, as the newest version has them (`migrations` makes them).

Times are texts of ISO 8601 in UTC: the same in SQLite and in PostgreSQL, and ordered as texts are. Those that are
compared are written by `instant`, which always gives the same number of characters.
"""

from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()

RELEASES: Final = sa.Table(
    "releases",
    METADATA,
    sa.Column("release", sa.Text, primary_key=True),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("manifest_digest", sa.Text, nullable=False),
    sa.Column("bundle", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("published", sa.Text, nullable=False),
    sa.Column("changed", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("files", sa.Text, nullable=False, server_default="[]"),
)

LISTED: Final = sa.Table(
    "listed",
    METADATA,
    sa.Column("release", sa.Text, primary_key=True),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("size", sa.Integer),
    sa.Column("epsilon", sa.Float().with_variant(sa.REAL(), "sqlite"), nullable=False),
    sa.Column("images", sa.Integer, nullable=False),
    sa.Column("words", sa.Text, nullable=False),
    *(sa.Index(f"listed_by_{column}", column, "release") for column in ("sequence", "epsilon", "images")),
    *(sa.Index(f"listed_by_{column}", column, "sequence", "release") for column in ("task", "size", "state")),
)
"""The releases that the public sees, by what they are looked for; it follows from ``RELEASES`` (`listing`)."""

LISTED_CLASSES: Final = sa.Table(
    "listed_classes",
    METADATA,
    sa.Column("label", sa.Text, primary_key=True),
    sa.Column("release", sa.Text, primary_key=True),
    sa.Index("listed_classes_of", "release"),
)

TOKENS: Final = sa.Table(
    "tokens",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("release", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("agreement", sa.Text, nullable=False),
    sa.Column("granted", sa.Text, nullable=False),
    sa.Column("expires", sa.Text, nullable=False),
    sa.Column("revoked", sa.Text),
    sa.Column("account", sa.Text),
    sa.Column("label", sa.Text, nullable=False, default=""),
    sa.Index("tokens_granted", "granted"),
    sa.Index("tokens_account", "account"),
)

ACCOUNTS: Final = sa.Table(
    "accounts",
    METADATA,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("email", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("password", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("verified", sa.Text),
)

LINKS: Final = sa.Table(
    "links",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, sa.ForeignKey("accounts.account"), nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("expires", sa.Text, nullable=False),
)

SESSIONS: Final = sa.Table(
    "sessions",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, sa.ForeignKey("accounts.account"), nullable=False),
    sa.Column("expires", sa.Text, nullable=False),
)

IDENTITIES: Final = sa.Table(
    "identities",
    METADATA,
    sa.Column("issuer", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, sa.ForeignKey("accounts.account"), nullable=False),
    sa.Column("created", sa.Text, nullable=False),
    sa.Index("identities_account", "account"),
)

ACCESSES: Final = sa.Table(
    "accesses",
    METADATA,
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("token", sa.Text, primary_key=True),
    sa.Column("release", sa.Text, primary_key=True),
)

CHANGES: Final = sa.Table(
    "changes",
    METADATA,
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
)
"""How often something was changed, by anybody: readers keep what they parsed for as long as the number stands."""


def instant(time: datetime) -> str:
    """A moment as the database keeps it.

    Args:
        time: aware.
    """
    return time.astimezone(UTC).isoformat(timespec="microseconds")
