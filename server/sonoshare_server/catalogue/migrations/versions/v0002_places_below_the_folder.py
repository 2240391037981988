"""A release below the catalogue's folder is remembered from there, so that the folder can be renamed.

Version 1 remembered where the coordinator's folder lay when the release was published.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Shorten the places."""
    op.execute("UPDATE releases SET bundle = 'releases/' || release WHERE bundle LIKE '%/releases/' || release")


def downgrade() -> None:
    """A short place is one that version 1 can read as well, from the folder that it runs in: nothing is lost."""
