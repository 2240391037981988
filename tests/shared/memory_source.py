"""A source of releases in memory, whose answers can be cut and changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.release.paths import files_in
from sonoshare_shared.protocol.release.sources import (
    FileListing,
    ListedFile,
    Reading,
    TransferCutError,
    require_release_id,
)

BLOCK_BYTES = 1000


@dataclass
class MemorySource:
    """Releases by identifier, and their files by path.

    Args:
        releases: what is there.
        cuts: by path, bytes after which each answer breaks off; when they are used up, answers are whole.
        change: edits a listing.
        asked: every question for bytes: path and start.
    """

    releases: dict[str, dict[str, bytes]]
    cuts: dict[str, list[int]] = field(default_factory=dict)
    change: Callable[[FileListing], FileListing] = lambda listing: listing
    asked: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def of(cls, *folders: Path) -> "MemorySource":
        return cls({f.name: {path: (f / path).read_bytes() for path in files_in(f)} for f in folders})

    def listing(self, release: str) -> FileListing:
        if require_release_id(release) not in self.releases:
            raise InputError(f"no release {release}", remedy="check its name")
        files = self.releases[release].items()
        listed = tuple(ListedFile(path=path, size=len(data), sha256=sha256_hex(data)) for path, data in sorted(files))
        return self.change(FileListing(release=release, files=listed))

    @contextmanager
    def reading(self, release: str, file: ListedFile, start: int) -> Iterator[Reading]:
        self.asked.append((file.path, start))
        data = self.releases.get(release, {}).get(file.path)
        if data is None:
            raise InputError(f"no file {file.path} in {release}", remedy="check its name")
        begins = start if sha256_hex(data) == file.sha256 else 0
        yield Reading(begins, self._blocks(file.path, data[begins:]))

    def _blocks(self, path: str, data: bytes) -> Iterator[bytes]:
        cut = self.cuts[path].pop(0) if self.cuts.get(path) else None
        for first in range(0, len(data), BLOCK_BYTES):
            block = data[first : first + BLOCK_BYTES]
            if cut is not None and first + len(block) > cut:
                yield block[: cut - first]
                raise TransferCutError(f"the connection was lost at {path}", remedy="run the same command again")
            yield block
