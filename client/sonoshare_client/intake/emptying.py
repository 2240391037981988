"""Parent: what the inbox holds no more once the vault has it.

A file of the inbox is removed when its pictures are in the vault *with a class*. One that waits for a label stays,
since labels are joined by what its header says; one that was set aside stays, for a person to look at. A folder that is
not the node's inbox is never touched.
"""

from collections.abc import Iterable
from pathlib import Path

from sonoshare_shared.science.label_table import LabelTable


def remove_taken(inbox: Path, table: LabelTable, set_aside: Iterable[str]) -> int:
    """Remove what was taken in.

    Args:
        inbox: the node's inbox.
        table: rows that were taken in or set aside; the vault has them durably.
        set_aside: paths below the inbox that are not in the vault.

    Returns:
        How many files are gone.
    """
    left, inbox = set(set_aside), inbox.resolve()
    gone = 0
    for row in table:
        path = row.image.resolve()
        if row.label and path.parent == inbox and path.name not in left and path.exists():
            path.unlink()
            gone += 1
    return gone
