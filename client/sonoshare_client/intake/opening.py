"""Parent: opens a file of the source folder, or refuses; never looks into it."""

import errno
import os
import stat
from typing import Final

from sonoshare_shared.science.pictures.reasons import Reason, Refused

_REASON_OF_ERROR: Final = {
    errno.ENOENT: Reason.MISSING,
    errno.ENOTDIR: Reason.MISSING,
    errno.ELOOP: Reason.OUTSIDE,
}


def open_checked(folder: str, relative: str, most_bytes: int) -> int:
    """Open an ordinary file below a folder for reading.

    Args:
        folder: real path of the source folder.
        relative: path below it.
        most_bytes: the largest file.

    Returns:
        A descriptor; the caller closes it.

    Raises:
        Refused: not there, outside by ``..`` or a link, a device or pipe, empty, or too large.
    """
    real = os.path.realpath(os.path.join(folder, relative))  # noqa: PTH118 - resolves links, then compares text
    if os.path.commonpath([folder, real]) != folder:
        raise Refused(Reason.OUTSIDE)
    try:
        # What was resolved is opened without following a link put there since; a pipe must not block.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(_REASON_OF_ERROR.get(error.errno or 0, Reason.UNREADABLE)) from error
    status = os.fstat(descriptor)
    reason = None
    if not stat.S_ISREG(status.st_mode):
        reason = Reason.NOT_A_FILE
    elif status.st_size == 0:
        reason = Reason.EMPTY
    elif status.st_size > most_bytes:
        reason = Reason.TOO_LARGE
    if reason is not None:
        os.close(descriptor)
        raise Refused(reason)
    return descriptor
