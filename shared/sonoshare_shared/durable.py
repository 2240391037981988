"""Files and folders that are there whole or not at all, whatever is killed and whenever.

Every write of the project goes through here; ``tests/shared/test_durable.py`` looks for others.

| call | a reader sees | after a crash of the machine |
|---|---|---|
| ``write_atomically`` | the old bytes or the new ones | the same |
| ``write_parts_atomically`` | the same, of a file larger than the memory | the same |
| ``create`` | no file or all of it; one of several makers wins | the same |
| ``append_at`` | the old bytes, or more of them | a torn tail at most, which the next append cuts off |
| ``append_line`` | whole lines; a line that was cut keeps its own line | what was not yet on the disk is lost |
| ``move`` | the file under one of the two names | the same |
| ``roll`` | both files whole, the newer one perhaps not yet there | the same |
| ``appearing`` | no folder or all of it | the same where ``durable``, else files may be empty |

Promise: once a call returns, bytes and name are on the disk (``append_line`` alone leaves that to the system). Several
may write the same file at once: each writes a part of its own (``NAME.part``, ``NAME.1.part``), and one of them is the
last or, with ``create``, the first. What a kill leaves of a part the next write of the file removes; nobody reads it.
Not promised: order between writers of the same file; that processes on several machines, or on a file system without
locks, tell each other's parts from what a kill has left: those give themselves names (``writer``).
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sonoshare_shared.errors import InputError

_FLUSHES_AT_ONCE: Final = 16
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o666, writer: str = "part") -> None:
    """Write a file whole and durably, in the place of an older one.

    Args:
        path: the file; its folder exists.
        data: its new content.
        mode: permissions, less those that the process masks.
        writer: end of the name under which it is written first; one's own where several machines may write the file,
            or where what this writer leaves is to be found by it.

    Raises:
        OSError: it could not be written; the old file is as it was.
    """
    with _written(path, (data,), mode, writer) as part:
        part.replace(path)
    _flush(path.parent)


def write_parts_atomically(path: Path, parts: Iterable[bytes], *, mode: int = 0o666) -> None:
    """Write a file that is too large for the memory, as ``write_atomically`` writes another.

    Args:
        path: the file; its folder exists.
        parts: its new content, part by part.
        mode: permissions, less those that the process masks.

    Raises:
        OSError: it could not be written; the old file is as it was.
    """
    with _written(path, parts, mode, "part") as part:
        part.replace(path)
    _flush(path.parent)


def create(path: Path, data: bytes, *, mode: int = 0o666, writer: str = "part") -> None:
    """Write a new file whole and durably; an existing one is never touched.

    Args:
        path: the file; its folder exists.
        data: its content.
        mode: permissions, less those that the process masks.
        writer: as for ``write_atomically``.

    Raises:
        FileExistsError: there is one already, made before or at the same moment by another.
        OSError: it could not be written.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    with _written(path, (data,), mode, writer) as part:
        try:
            os.link(part, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A file system without hard links, such as a memory stick's: nobody else makes files there.
            part.replace(path)
        else:
            part.unlink()
    _flush(path.parent)


def move(path: Path, destination: Path) -> None:
    """Give a whole file another name on the same disk, durably, in the place of an older one there.

    Raises:
        OSError: it could not be moved.
    """
    path.replace(destination)
    for folder in {path.parent, destination.parent}:
        _flush(folder)


def append_at(path: Path, length: int, data: bytes | memoryview) -> None:
    """Append to the first ``length`` bytes of a file, durably; what stands behind them is cut off.

    Raises:
        OSError: it could not be written; the first ``length`` bytes are as they were.
    """
    with path.open("r+b") as file:
        file.truncate(length)
        file.seek(length)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file that is for people's eyes; made when absent.

    Raises:
        OSError: it could not be written; what was there is as it was.
    """
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        cut = file.read(1) not in {b"", b"\n"}  # by a kill or a full disk: it keeps its own line
        file.write(b"\n" * cut + line + b"\n")


def roll(path: Path, most_bytes: int) -> None:
    """Put a file of lines aside once it is large, in the place of what was put aside before (``rolled``).

    Args:
        path: the file; it may be absent.
        most_bytes: a smaller one stays.

    Raises:
        OSError: it could not be renamed.
    """
    if path.exists() and path.stat().st_size >= most_bytes:
        path.replace(rolled(path))


def rolled(path: Path) -> Path:
    """Where the older lines of a file are: ``events.jsonl`` has ``events.1.jsonl``."""
    return path.with_suffix(f".1{path.suffix}")


@contextmanager
def appearing(destination: Path, *, durable: bool = False, mode: int = 0o777) -> Iterator[Path]:
    """Give a folder to build in; when the block ends without an error it becomes ``destination``.

    What a crash leaves beside it (``.NAME.building``) is removed by the next attempt.

    Args:
        destination: the final place; absent or an empty folder.
        durable: flush every file before the folder appears; for what cannot be made again.
        mode: permissions of the folder, less those that the process masks.

    Raises:
        InputError: there is already something at the destination.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination.name} already exists", remedy="choose another folder or remove it")
    building = destination.parent / f".{destination.name}.building"
    shutil.rmtree(building, ignore_errors=True)
    destination.parent.mkdir(parents=True, exist_ok=True)
    building.mkdir(mode=mode)
    try:
        yield building
        appear(building, destination, durable=durable)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def appear(building: Path, destination: Path, *, durable: bool = False) -> None:
    """Give a finished file or folder its final name; an empty folder of that name gives way."""
    if durable:
        _make_durable(building)
    building.replace(destination)
    _flush(destination.parent)


def put(folder: Path, path: str, data: bytes) -> None:
    """Write one new file of a folder that is being built."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        file.write(data)


def put_parts(folder: Path, path: str, parts: Iterable[bytes], *, mode: int) -> None:
    """Write one new file of a folder that is being built, too large for the memory, with these very permissions."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o700), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.writelines(parts)


def put_again(folder: Path, path: str, source: Path) -> None:
    """Put a file that is there already into a folder that is being built: a second name, no second copy."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


@contextmanager
def _written(path: Path, parts: Iterable[bytes], mode: int, writer: str) -> Iterator[Path]:
    """A file beside ``path`` with its new content, on the disk, for a block that gives it its name."""
    part, descriptor = _own_part(path, mode, writer)
    with os.fdopen(descriptor, "wb") as file:  # and with it the lock, until there is no part of this name any more
        try:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
            yield part
        except BaseException:
            # On a full disk the part would keep the very room that the user is asked to make.
            part.unlink(missing_ok=True)
            raise


def _own_part(path: Path, mode: int, writer: str) -> tuple[Path, int]:
    """A new empty part of a file, open and locked, under the first name that no living writer has."""
    number = 0
    while True:
        part = path.with_name(f"{path.name}.{number}.{writer}" if number else f"{path.name}.{writer}")
        try:
            # Never opened where it is there: a killed ``create`` may have left it as a second name of the file itself.
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            number += not _is_free(part)
            continue
        # Waits for whoever takes it, not locked yet, for what a kill has left; only then it shows whether it is there.
        _lock(descriptor, wait=True)
        if _has_name(descriptor, part):
            return part, descriptor
        os.close(descriptor)


def _is_free(part: Path) -> bool:
    """Whether nobody writes a part; what a kill has left of it is removed."""
    try:
        descriptor = os.open(part, os.O_RDONLY)
    except FileNotFoundError:
        return True
    except PermissionError:  # another user's
        return False
    try:
        if not _lock(descriptor):
            return False
        if _has_name(descriptor, part):
            part.unlink()
        return True
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool = False) -> bool:
    """Take the operating system's lock of an open file; False where another has it, or where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _has_name(descriptor: int, part: Path) -> bool:
    """Whether an open file still lies under a name."""
    try:
        there = part.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _make_durable(folder: Path) -> None:
    walk = list(os.walk(folder))
    files = [Path(parent) / name for parent, _, names in walk for name in names]
    # Flushes that wait together share one commit of the file system's journal: some thirty times faster than in turn.
    with ThreadPoolExecutor(_FLUSHES_AT_ONCE, "flush") as pool:
        list(pool.map(_flush, files))
    for parent, _, _ in reversed(walk):
        _flush(Path(parent))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
