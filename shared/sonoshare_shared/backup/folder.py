"""The files of a folder that is in use, as an archive takes them.

A database of the role is copied by SQLite itself, as it stood at one moment. Every other file of the project is
replaced whole or only grows (``durable``), so that what is read of it is a state that it had. Between files the *order*
counts: what names something is copied before what it names (``first``), and what must be newest at last (``last``).

What is a database is said by the role, and never by a file: SQLite obeys the journal that lies beside a database, which
can name any file to be removed, and whoever may put a picture into an inbox could put both there.

Promise: locks, sockets, records of running processes and parts of unfinished writes are left out.
Not promised: memory for a database beyond its size.
"""

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from sonoshare_shared.backup.archive import Member
from sonoshare_shared.errors import InputError, IntegrityError

_BESIDE_DATABASES: Final = ("-wal", "-shm", "-journal")
_LOCK: Final = "lock"
_PASSING: Final = (".lock", ".run.json", ".part", ".building", ".sock")
_READ_BYTES: Final = 1 << 20


def folder_members(
    root: Path,
    *,
    databases: Iterable[str],
    without: Iterable[str] = (),
    first: Sequence[str] = (),
    last: Sequence[str] = (),
) -> Iterator[Member]:
    """Every folder, then every file.

    Args:
        root: the folder.
        databases: paths in it of the role's own SQLite databases; one that is absent is no fault.
        without: paths in it that are left out, with all that lies in them.
        first: names of files that are copied before all others.
        last: paths of files that are copied after all others, in this order.

    Raises:
        InputError: there is a link in it.
        IntegrityError: a database is damaged.
        OSError: a file cannot be read.
    """
    own = frozenset(databases)
    left_out = frozenset(without) | {f"{name}{beside}" for name in own for beside in _BESIDE_DATABASES}
    folders, files = _walk(root, left_out)
    for name in sorted(folders):
        yield Member(name, stat.S_IMODE((root / name).stat().st_mode))
    for name in sorted(files, key=lambda name: _turn(name, first, last)):
        member = _file(root, name, database=name in own)
        if member is not None:
            yield member


def require_alone(root: Path, databases: Iterable[str]) -> None:
    """Check that nothing stands beside the databases of a folder that came out of an archive, before they are opened.

    A backup never puts a journal there, and SQLite would obey it.

    Raises:
        IntegrityError: something does.
    """
    for name in databases:
        if any((root / f"{name}{beside}").exists() for beside in _BESIDE_DATABASES):
            raise IntegrityError(
                f"the backup is none of ours: a journal stands beside {name}", remedy="restore another one"
            )


def _turn(name: str, first: Sequence[str], last: Sequence[str]) -> tuple[int, str]:
    if name in last:
        return 2 + last.index(name), name
    return int(name.rpartition("/")[2] not in first), name


def _walk(root: Path, left_out: frozenset[str]) -> tuple[list[str], list[str]]:
    folders: list[str] = []
    files: list[str] = []
    for parent, inner, names in os.walk(root):
        here = Path(parent).relative_to(root)
        inner[:] = [name for name in inner if _counts(here / name, left_out)]
        kept = [here / name for name in inner]
        kept += [here / name for name in names if name != _LOCK and _counts(here / name, left_out)]
        for path in kept:
            mode = _mode(root / path)
            if stat.S_ISLNK(mode):
                raise InputError(f"{path} is a link", remedy="put the folder itself in its place, then back up again")
            if stat.S_ISDIR(mode):
                folders.append(path.as_posix())
            elif stat.S_ISREG(mode):
                files.append(path.as_posix())
    return folders, files


def _mode(path: Path) -> int:
    """Kind and permissions of what has a name; 0 where it is gone since."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _counts(path: Path, left_out: frozenset[str]) -> bool:
    return not path.name.endswith(_PASSING) and path.as_posix() not in left_out


def _file(root: Path, name: str, *, database: bool) -> Member | None:
    """A file as it is now; None where it is gone since."""
    try:
        status = (root / name).stat()
    except FileNotFoundError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    if database:
        data = _database(root / name)
        return Member(name, mode, len(data), (data,))
    return Member(name, mode, status.st_size, _parts(root / name, status.st_size))


def _parts(path: Path, size: int) -> Iterator[bytes]:
    """The first ``size`` bytes of a file: what is appended meanwhile is not part of it."""
    with path.open("rb") as file:
        while size and (part := file.read(min(size, _READ_BYTES))):
            size -= len(part)
            yield part


def _database(path: Path) -> bytes:
    source, copy = sqlite3.connect(path, timeout=60.0), sqlite3.connect(":memory:")
    try:
        source.backup(copy)
        return copy.serialize()
    except sqlite3.Error as error:
        raise IntegrityError(
            f"{path.name} cannot be copied: {error}", remedy="keep the file, and bring back its newest copy"
        ) from error
    finally:
        source.close()
        copy.close()
