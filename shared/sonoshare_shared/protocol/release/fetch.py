"""Download a release: resumable, checksummed, in bounded memory, and visible only once it is verified.

Files are collected in ``OUT.part``; each is written to ``NAME.part`` and renamed when its sha256 is right. A fetch
that was cut goes on where it stopped, within a file too. When all files are there the
caller's check runs over the folder, and only then does it become ``OUT``: what stands at ``OUT`` was verified.
Where this very release stands at ``OUT`` already, nothing is downloaded, and the check runs over it.
"""

import hashlib
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeVar

from sonoshare_shared.durable import appear
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.paths import require_distinct_paths
from sonoshare_shared.protocol.release.patience import Patience
from sonoshare_shared.protocol.release.sources import FileListing, ListedFile, ReleaseSource, TransferCutError

Checked = TypeVar("Checked")
Progress = Callable[[int, int], None]

CONNECTIONS: Final = 4
_BLOCK_BYTES: Final = 256 << 10
_BLOCKS_ON_THE_WAY: Final = 16
_LARGE_BYTES: Final = 4 << 20
_RESERVE_BYTES: Final = 64 << 20
"""Disk space that must remain free besides the release itself."""


class _StoppedError(Exception):
    """Another file's failure, or Ctrl-C, stopped this one."""


@dataclass
class _Job:
    """One fetch: shared by its threads."""

    source: ReleaseSource
    release: str
    folder: Path
    pause: Callable[[float], object] | None
    told: Callable[[str], None]
    progress: Progress | None
    total: int
    done: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def patience(self) -> Patience:
        """Waits between attempts; a stop ends them."""
        return Patience(self.pause or self.stopped.wait, self.told)

    def advance(self, count: int) -> None:
        """Count bytes that are on the disk (negative: bytes that were given up)."""
        with self.lock:
            self.done += count
            if self.progress is not None:
                self.progress(self.done, self.total)


def fetch_release(
    source: ReleaseSource,
    release: str,
    out: Path,
    check: Callable[[Path], Checked],
    *,
    before: Callable[[FileListing], None] = lambda _listing: None,
    jobs: int = CONNECTIONS,
    progress: Progress | None = None,
    told: Callable[[str], None] = lambda _words: None,
    pause: Callable[[float], object] | None = None,
) -> Checked:
    """Download a release and give it its name when ``check`` has passed.

    Args:
        source: where it is got from.
        release: identifier.
        out: folder to make; absent, empty, or this release as it was fetched before.
        check: verifies the downloaded folder and raises if it must not be used.
        before: is shown what there is before any of it is downloaded, and raises if it must not be.
        jobs: files that are downloaded at the same time.
        progress: called with bytes on the disk and bytes in all, and with their sum before the first byte.
        told: is told in words of what takes long, from any thread.
        pause: waits between attempts, for tests; without it a stop ends every wait.

    Returns:
        What ``check`` returned.

    Raises:
        InputError: the folder or release cannot be used, or the disk is too small.
        RefusedError: no valid token.
        FederationError: the source cannot be reached or answers nonsense.
        IntegrityError: a file is not what the source lists, or ``check`` raised it.
    """
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not (out / layout.MANIFEST).is_file():
        raise InputError(f"{out.name} already exists", remedy="choose another --out")
    folder = out.with_name(out.name + ".part")
    listing = source.listing(release)
    before(listing)
    if taken:
        return _checked_again(listing, out, check)
    require_distinct_paths(file.path for file in listing.files)
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise InputError(f"{folder.name} is a link", remedy="remove it")
    total = sum(file.size for file in listing.files)
    _require_space(folder, total)
    job = _Job(source, listing.release, folder, pause, told, progress, total)
    job.advance(0)
    _remove_strangers(folder, {file.path for file in listing.files})
    _download(job, listing.files, jobs)
    _remove_strangers(folder, {file.path for file in listing.files})  # a viewer may have left something meanwhile
    checked = check(folder)
    if out.exists():
        out.rmdir()
    appear(folder, out, durable=True)
    return checked


def _checked_again(listing: FileListing, out: Path, check: Callable[[Path], Checked]) -> Checked:
    """Check what stands at the destination, if it is this release; nothing is downloaded."""
    listed = next((file.sha256 for file in listing.files if file.path == layout.MANIFEST), None)
    if sha256_file(out / layout.MANIFEST) != listed:
        raise InputError(f"{out.name} already holds another release", remedy="choose another --out")
    return check(out)


def _require_space(folder: Path, total: int) -> None:
    here = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if shutil.disk_usage(folder).free < total - here + _RESERVE_BYTES:
        raise InputError(
            f"the release needs {total >> 20} MiB and the disk is nearly full", remedy="choose another --out"
        )


def _remove_strangers(folder: Path, listed: set[str]) -> None:
    """Remove what an earlier fetch of other contents left, and every link."""
    for parent, folders, names in os.walk(folder):
        for name in [*names, *(name for name in folders if (Path(parent) / name).is_symlink())]:
            path = Path(parent) / name
            if path.is_symlink() or path.relative_to(folder).as_posix().removesuffix(".part") not in listed:
                path.unlink()


def _download(job: _Job, files: tuple[ListedFile, ...], jobs: int) -> None:
    with ThreadPoolExecutor(jobs, "fetch") as pool:
        futures = [pool.submit(_one, job, file) for file in files]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # On the first error, or Ctrl-C, the others stop at their next block.
            if any(not future.done() or future.exception() is not None for future in futures):
                job.stopped.set()
            pool.shutdown(cancel_futures=True)
    errors = [future.exception() for future in futures if not future.cancelled()]
    for error in errors:
        if error is not None and not isinstance(error, _StoppedError):
            raise error


def _one(job: _Job, file: ListedFile) -> None:
    target = job.folder / file.path
    if target.is_file() and target.stat().st_size == file.size and sha256_file(target) == file.sha256:
        job.advance(file.size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(target.name + ".part")
    for _ in range(2):  # a part that another content left behind is given up once
        with _Part(path, job, large=file.size >= _LARGE_BYTES) as part:
            _fill(job, file, part)
            if part.digest.hexdigest() == file.sha256:
                path.replace(target)
                return
            part.restart()
    path.unlink()
    raise IntegrityError(f"{file.path} is not the file that is listed", remedy="tell the catalogue's operator")


class _Part:
    """The bytes of one file so far, on the disk, and their digest.

    Of a large file they are written and hashed by a thread of its own, while the next ones come; after ``flush`` all of
    them are on the disk and in the digest.
    """

    def __init__(self, path: Path, job: _Job, *, large: bool) -> None:
        self._job = job
        self._stream = path.open("a+b")
        self._pool = ThreadPoolExecutor(1, "write") if large else None
        self._held = bytearray()
        self._writing: deque[Future[None]] = deque()
        self._failed = False
        self.digest = hashlib.sha256()
        self.size = 0
        self._stream.seek(0)
        while block := self._stream.read(_BLOCK_BYTES):
            self.digest.update(block)
            self.size += len(block)
        job.advance(self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._stream.close()

    def append(self, block: bytes) -> None:
        """Add a block at the end; an error of one before is raised here or by ``flush``."""
        self._held += block
        self.size += len(block)
        if len(self._held) >= _BLOCK_BYTES:
            self._hand_on()

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if self._held:
            self._hand_on()
        while self._writing:
            self._writing.popleft().result()
        self._stream.flush()

    def restart(self) -> None:
        """Forget everything; nothing is on its way to the disk."""
        self._stream.truncate(0)
        self._job.advance(-self.size)
        self.digest, self.size = hashlib.sha256(), 0

    def _hand_on(self) -> None:
        data, self._held = self._held, bytearray()
        if self._pool is None:
            self._write(data)
            return
        while len(self._writing) >= _BLOCKS_ON_THE_WAY:
            self._writing.popleft().result()
        self._writing.append(self._pool.submit(self._write, data))

    def _write(self, data: bytearray) -> None:
        if self._failed:  # what stands on the disk has no gaps
            return
        try:
            self._stream.write(data)
        except OSError:
            self._failed = True
            raise
        self.digest.update(data)
        self._job.advance(len(data))


def _fill(job: _Job, file: ListedFile, part: _Part) -> None:
    """Append until the part has the file's size, over several connections if need be."""
    if part.size > file.size:
        part.restart()
    patience = job.patience()
    # An empty file needs no request: its digest is known.
    while part.size < file.size:
        before = part.size
        try:
            _receive(job, file, part)
        except TransferCutError as error:
            if part.size > before:
                patience.progressed()
            patience.wait(error)
            if job.stopped.is_set():
                raise _StoppedError from error


def _receive(job: _Job, file: ListedFile, part: _Part) -> None:
    """Ask once; appends what comes to the part.

    Raises:
        TransferCutError: it was cut; what came is in the part.
    """
    with job.source.reading(job.release, file, part.size) as reading:
        if reading.start != part.size:
            part.restart()  # the whole file comes: what we hold is of another content
        try:
            for block in reading.blocks:
                if job.stopped.is_set():
                    raise _StoppedError
                if part.size + len(block) > file.size:
                    raise IntegrityError(f"{file.path} is longer than listed", remedy="tell the catalogue's operator")
                part.append(block)
        finally:
            part.flush()
    if part.size < file.size:
        raise TransferCutError(f"{file.path} ended early", remedy="run the same command again to go on")
