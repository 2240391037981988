"""The bytes of published releases: where they are kept, and how parts of them are read.

A release is kept once, after it was verified, and its files never change. The catalogue remembers the *place* that
``keep`` gave it and asks for parts of files there.

``FolderBlobs`` serves a release from the folder where it lies and never writes to it. A place below the catalogue's own
folder is remembered from there (``releases/breast-2026-1``), so that the whole folder can be renamed or moved; a place
elsewhere is remembered in full.
"""

import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Protocol

from sonoshare_server.catalogue.store import StoredFile
from sonoshare_shared.errors import StorageError
from sonoshare_shared.protocol.release.paths import open_regular


class Blobs(Protocol):
    """Files of releases."""

    def keep(self, bundle: Path, files: Mapping[str, StoredFile]) -> str:
        """Take in a verified release folder and return its place.

        Args:
            bundle: the folder.
            files: all of it, as it was verified.

        Raises:
            FederationError: where it would be kept does not take it.
            VerificationError: what was kept is not what was verified.
        """

    def read(self, place: str, path: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` (exclusive) of a file; fewer where the file is shorter.

        Raises:
            VerificationError: the file is gone, or is no plain file.
            StorageError: where files are kept does not answer.
        """

    def opened(self, place: str, path: str) -> FileIO | None:
        """A file that is on a disk here, open for reading; None where it is read by ``read`` alone.

        Raises:
            VerificationError: the file is gone, or is no plain file.
        """

    def require_reachable(self) -> None:
        """Ask whether files can be read at all.

        Raises:
            StorageError: where files are kept does not answer.
        """


class FolderBlobs:
    """Releases in folders.

    Args:
        root: the catalogue's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def keep(self, bundle: Path, files: Mapping[str, StoredFile]) -> str:  # noqa: ARG002
        """The place of a release folder, which stays where it lies."""
        folder, root = bundle.resolve(), self._root.resolve()
        return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder)

    def read(self, place: str, path: str, start: int, end: int) -> bytes:
        """A part of a file, without following a link."""
        descriptor = open_regular(self._root / place, path)
        try:
            return os.pread(descriptor, end - start, start)
        finally:
            os.close(descriptor)

    def opened(self, place: str, path: str) -> FileIO:
        """A file, without following a link."""
        return FileIO(open_regular(self._root / place, path), "rb")

    def require_reachable(self) -> None:
        """A folder that is not mounted does not answer."""
        if not self._root.is_dir():
            raise StorageError("the folder of releases is not there", remedy="see that its disk is mounted")
