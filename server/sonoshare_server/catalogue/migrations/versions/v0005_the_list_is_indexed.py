"""What the public list shows stands in tables of its own, with indices; a release's files stand beside its summary.

Version 4 kept the files inside the summary, so that whoever listed releases read the digests of every picture.
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_RELEASES = sa.table("releases", *map(sa.column, ("release", "sequence", "state", "summary", "files")))


def upgrade() -> None:
    """Move the files out of the summaries, and list what is public."""
    op.add_column("releases", sa.Column("files", sa.Text, nullable=False, server_default="[]"))
    listed = op.create_table(
        "listed",
        sa.Column("release", sa.Text, primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("size", sa.Integer),
        sa.Column("epsilon", sa.Float().with_variant(sa.REAL(), "sqlite"), nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    classes = op.create_table(
        "listed_classes",
        sa.Column("label", sa.Text, primary_key=True),
        sa.Column("release", sa.Text, primary_key=True),
        sqlite_strict=True,
    )
    for column in ("sequence", "epsilon", "images"):
        op.create_index(f"listed_by_{column}", "listed", [column, "release"])
    for column in ("task", "size", "state"):
        op.create_index(f"listed_by_{column}", "listed", [column, "sequence", "release"])
    op.create_index("listed_classes_of", "listed_classes", ["release"])
    connection = op.get_bind()
    for release in connection.execute(sa.select(_RELEASES.c.release)).scalars().all():
        row = connection.execute(sa.select(_RELEASES).where(_RELEASES.c.release == release)).one()
        summary = json.loads(row.summary)
        _write(connection, release, files=json.dumps(summary.pop("files")), summary=json.dumps(summary))
        if row.state != "unpublished":
            connection.execute(sa.insert(listed).values(_listed(row, summary)))
            shown = [{"label": label, "release": release} for label, count in summary["counts"].items() if count]
            if shown:
                connection.execute(sa.insert(classes), shown)


def downgrade() -> None:
    """Put the files back, and forget the list, which follows from the releases."""
    connection = op.get_bind()
    for release in connection.execute(sa.select(_RELEASES.c.release)).scalars().all():
        row = connection.execute(sa.select(_RELEASES).where(_RELEASES.c.release == release)).one()
        whole = json.loads(row.summary) | {"files": json.loads(row.files)}
        _write(connection, release, files="[]", summary=json.dumps(whole))
    for table in ("listed_classes", "listed"):
        op.drop_table(table)
    op.drop_column("releases", "files")


def _write(connection: sa.Connection, release: str, **texts: str) -> None:
    connection.execute(sa.update(_RELEASES).where(_RELEASES.c.release == release).values(**texts))


def _listed(row: Any, summary: dict[str, Any]) -> dict[str, Any]:
    words = (row.release, summary["study"], summary["task"], summary["question"], *summary["counts"])
    return {
        "release": row.release,
        "sequence": row.sequence,
        "state": row.state,
        "task": summary["task"],
        "size": summary.get("image_size"),
        "epsilon": summary["privacy"]["epsilon"],
        "images": summary["images"],
        "words": " ".join(words).casefold(),
    }
