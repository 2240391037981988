"""The node's inbox: bytes that came from elsewhere and wait for intake.

    inbox/3f9a...e1.dcm       named by their sha256, readable by the owner only

Promise: once ``put`` returns, bytes and name are on the disk; a kill leaves no half file under a final name, and the
same bytes put again are the same file. Nothing is read or decoded here, and no name comes from what was sent.
Not promised: that the bytes are a picture. Whoever may send can fill the inbox up to its bound, and no further.
"""

import errno
import hashlib
import os
import threading
from pathlib import Path
from typing import Final

from sonoshare_shared.durable import write_atomically

MIB: Final = 1 << 20
_RESERVE_BYTES: Final = 64 * MIB
"""Left free on the disk, for the ledger and for all that must be written while the inbox is full."""


class Inbox:
    """The inbox's folder.

    Args:
        path: the folder; made when it is absent.
        most_bytes: bound on all that waits.
        writer: name of the source; several may write at the same time.
    """

    def __init__(self, path: Path, most_bytes: int, writer: str) -> None:
        self._path, self._most_bytes, self._writer = path, most_bytes, writer
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._held = self._measured()

    def remove_parts(self) -> None:
        """Remove what a killed writer of this name left; to be called while no other of this name runs."""
        for part in self._path.glob(f"*.{self._writer}"):
            part.unlink(missing_ok=True)

    def put(self, data: bytes, suffix: str = ".dcm") -> Path:
        """Keep bytes, durably.

        Args:
            data: what came.
            suffix: of the file's name.

        Returns:
            The file.

        Raises:
            OSError: it could not be written; ENOSPC where the disk or the inbox is full. Nothing half is left.
        """
        target = self._path / f"{hashlib.sha256(data).hexdigest()}{suffix}"
        with self._lock:
            self._require_room(len(data))
            # The same bytes again are written again: the first writer may not have got as far as the disk.
            known = target.exists()
            write_atomically(target, data, mode=0o600, writer=self._writer)
            self._held += 0 if known else len(data)
        return target

    def _require_room(self, length: int) -> None:
        if self._held + length > self._most_bytes:
            self._held = self._measured()  # intake may have emptied it meanwhile
        disk = os.statvfs(self._path)
        if self._held + length > self._most_bytes or disk.f_bavail * disk.f_frsize < length + _RESERVE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def _measured(self) -> int:
        with os.scandir(self._path) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
