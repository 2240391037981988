"""Sealed images as files: under random names, all in one folder, durable in batches."""

import os
import secrets
from collections.abc import Container
from pathlib import Path

from sonoshare_shared.errors import IntegrityError


def place_of(blob: str, pseudonym: str) -> str:
    """Associated data of a blob: it opens under its own name and for its own patient only."""
    return f"sonoshare/vault/v1:{blob}:{pseudonym}"


class BlobFolder:
    """Files under random names, all in one folder: one folder to make durable, whatever the batch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @staticmethod
    def new_name() -> str:
        """A random name."""
        return secrets.token_hex(16)

    def write(self, name: str, data: bytes) -> None:
        """Write a new file; not durable yet."""
        descriptor = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)

    def make_durable(self, names: list[str]) -> None:
        """Return when the files, and their names, are on the disk."""
        for path in [*(self._path(name) for name in names), self._folder]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def read(self, name: str) -> bytes:
        """Bytes of a file.

        Raises:
            IntegrityError: it is missing.
        """
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError as error:
            raise IntegrityError("a blob of the vault is missing", remedy="restore the vault from backup") from error

    def remove(self, names: list[str]) -> None:
        """Remove files."""
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def remove_all_but(self, names: Container[str]) -> None:
        """Remove what nobody names."""
        self.remove([path.name for path in self._folder.iterdir() if path.name not in names])

    def _path(self, name: str) -> Path:
        return self._folder / name
