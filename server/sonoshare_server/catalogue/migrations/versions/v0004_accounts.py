"""People: accounts, links that were mailed, sessions, whose a token is, and on which days data were read."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables; tokens that were granted before belong to nobody's account."""
    op.create_table(
        "accounts",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("email", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("password", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
        sa.Column("verified", sa.Text),
        sa.CheckConstraint("role IN ('researcher', 'auditor', 'coordinator')", name="roles"),
        sqlite_strict=True,
    )
    op.create_table(
        "links",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, sa.ForeignKey("accounts.account"), nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("expires", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, sa.ForeignKey("accounts.account"), nullable=False),
        sa.Column("expires", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "accesses",
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("token", sa.Text, primary_key=True),
        sa.Column("release", sa.Text, primary_key=True),
        sqlite_strict=True,
    )
    op.add_column("tokens", sa.Column("account", sa.Text))
    op.add_column("tokens", sa.Column("label", sa.Text, nullable=False, server_default=""))
    op.create_index("tokens_account", "tokens", ["account"])


def downgrade() -> None:
    """Forget people; their tokens stay, as those of nobody's account."""
    op.drop_index("tokens_account", "tokens")
    op.drop_column("tokens", "label")
    op.drop_column("tokens", "account")
    for table in ("accesses", "sessions", "links", "accounts"):
        op.drop_table(table)
