"""Changes are counted, so that several servers on one database see each other's; tokens are found by their time."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table and its one row."""
    changes = op.create_table(
        "changes",
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    op.bulk_insert(changes, [{"what": "releases", "number": 1}])
    op.create_index("tokens_granted", "tokens", ["granted"])


def downgrade() -> None:
    """Forget how often."""
    op.drop_index("tokens_granted", "tokens")
    op.drop_table("changes")
