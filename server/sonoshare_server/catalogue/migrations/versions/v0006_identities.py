"""Whom providers of OpenID Connect name: issuer and subject together, and whose account they open."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "identities",
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, sa.ForeignKey("accounts.account"), nullable=False),
        sa.Column("created", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("identities_account", "identities", ["account"])


def downgrade() -> None:
    """Forget the identities; accounts stay, and are opened by a password set anew."""
    op.drop_table("identities")
