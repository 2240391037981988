"""Files that others made, read no further than they may reach: a size is checked before anything is held.

    data = read_bounded(path, 64 << 20)

A plain file that is too large is not read at all; of a pipe or a device, which have no size, one byte too many is.
"""

import os
import stat
from pathlib import Path

from sonoshare_shared.errors import InputError


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        InputError: it has more.
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        data = bytes_of(file.fileno(), most)
    if data is None:
        raise InputError(f"{path.name} is larger than {most >> 20} MiB", remedy="check that it is the right file")
    return data


def bytes_of(descriptor: int, most: int) -> bytes | None:
    """The bytes of an open file from where it stands; None where there are more than ``most``.

    Raises:
        OSError: it cannot be read.
    """
    status = os.fstat(descriptor)
    known = stat.S_ISREG(status.st_mode)
    if known and status.st_size > most:
        return None
    # A plain file is asked for its size and a byte more: where that byte comes, it has grown meanwhile.
    block = min(status.st_size, most) + 1 if known else 1 << 16
    data = bytearray()
    while len(data) <= most and (more := os.read(descriptor, min(block, most + 1 - len(data)))):
        data += more
    return None if len(data) > most else bytes(data)
