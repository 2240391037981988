"""Files that are there whole or not at all, whatever is killed and whenever.

Promise: a reader sees the old bytes or the new ones, never a part; once the call returns, bytes and name are on the
disk.
Not promised: order between writers of the same file.
"""

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a file whole and durably.

    Args:
        path: the file; its folder exists.
        data: its new content.
        mode: permissions, less those that the process masks.

    Raises:
        OSError: it could not be written; the old file is as it was.
    """
    partial = path.with_name(path.name + ".part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # On a full disk the part would keep the very room that the user is asked to make.
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
