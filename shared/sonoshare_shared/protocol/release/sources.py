"""Where a release can be got from: a catalogue over HTTP (``remote``), or a folder of releases on a disk that was sent.

A source lists the files of a release and gives the bytes of one of them from a position on. Nothing that it says is
believed because it says so: ``fetch`` holds every file against its digest, and ``release.verify`` decides.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sonoshare_shared.errors import FederationError, InputError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.protocol.documents.base import HexDigest, Identifier
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.paths import files_and_litter, open_regular, read_regular

_BLOCK_BYTES: Final = 256 << 10
_MOST_MANIFEST_BYTES: Final = 256 << 20
_IDENTIFIER: Final = TypeAdapter(Identifier)


class TransferCutError(FederationError):
    """An answer ended early or did not come; bytes that came are good, and asking again goes on behind them.

    Args:
        message: what happened, one line.
        remedy: what the user can do when asking again does not help.
        after: seconds after which the source wants to be asked again, if it says so.
    """

    def __init__(self, message: str, *, remedy: str = "", after: float | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.after = after


class ListedFile(BaseModel):
    """A file of a release as a source lists it; fields we do not know are ignored."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: HexDigest


class FileListing(BaseModel):
    """Every file of a release, the manifest and signatures included."""

    model_config = ConfigDict(frozen=True)

    release: Identifier
    files: Annotated[tuple[ListedFile, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Reading:
    """Bytes of a file on their way.

    Attributes:
        start: where they begin: as asked for, or 0 where the source has another content or cannot begin within a file.
        blocks: the bytes; raises `TransferCutError` where they end early.
    """

    start: int
    blocks: Iterator[bytes]


class ReleaseSource(Protocol):
    """Something that has releases."""

    def listing(self, release: str) -> FileListing:
        """Every file of a release.

        Raises:
            InputError: no release of this name.
            FederationError: the source cannot be reached or answers nonsense.
        """

    def reading(self, release: str, file: ListedFile, start: int) -> AbstractContextManager[Reading]:
        """Bytes of a file from ``start`` on.

        Raises:
            RefusedError: the source does not give it out.
            InputError: no such file.
            TransferCutError: the source cannot be reached now.
        """


class FolderSource:
    """Releases in a folder, each in a folder of its name.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def listing(self, release: str) -> FileListing:
        """Every file that lies in the release's folder; digests are the manifest's where it lists the file.

        What operating systems left there is passed over (``litter``).
        """
        folder = self._root / require_release_id(release)
        if not (folder / layout.MANIFEST).is_file():
            raise InputError(f"no release {release} in {self._root.name}", remedy="check the folder")
        manifest = ReleaseManifest.from_bytes(read_regular(folder, layout.MANIFEST, _MOST_MANIFEST_BYTES))
        known = {entry.path: entry.sha256 for entry in manifest.files}
        found, litter = files_and_litter(folder)
        files = [
            ListedFile(path=path, size=size, sha256=known.get(path) or sha256_file(folder / path))
            for path, size in sorted(found.items())
            if path in known or path not in litter
        ]
        return FileListing(release=release, files=tuple(files))

    @contextmanager
    def reading(self, release: str, file: ListedFile, start: int) -> Iterator[Reading]:
        """Bytes of a file from ``start`` on."""
        try:
            descriptor = open_regular(self._root / require_release_id(release), file.path)
        except VerificationError as error:
            raise InputError(f"no file {file.path} in {release}", remedy="check the folder") from error
        with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor
            stream.seek(start)
            yield Reading(start, _blocks(iter(lambda: stream.read(_BLOCK_BYTES), b""), file))


def require_release_id(release: str) -> str:
    """Return a release's identifier.

    Raises:
        InputError: it is none.
    """
    try:
        return _IDENTIFIER.validate_python(release)
    except ValidationError as error:
        raise InputError(f"{release[:80]!r} is no release id", remedy="list them with: sonoshare releases") from error


def _blocks(stream: Iterator[bytes], file: ListedFile) -> Iterator[bytes]:
    try:
        yield from stream
    except OSError as error:
        raise TransferCutError(f"{file.path} cannot be read: {error.strerror}", remedy="check the disk") from error
