"""Paths inside a release folder: which are safe, and what really lies in a folder.

A path of a release is relative, with forward slashes, each part made of ASCII letters, digits, dot, dash and
underscore, no part hidden or ending in a dot, none a device name of some operating system, and no two paths equal
when case is ignored: so it names the same file on every file system and never one outside the folder.
Symbolic links, devices, pipes and sockets are refused wherever they stand.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from sonoshare_shared.bounded import bytes_of
from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.release.litter import is_litter_file, is_litter_folder, litter_error

MAX_PATH_CHARACTERS = 200
MAX_DEPTH = 8
_FLAGS = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_DEVICE = r"(?!(?:[Cc][Oo][Nn]|[Pp][Rr][Nn]|[Aa][Uu][Xx]|[Nn][Uu][Ll]|(?:[Cc][Oo][Mm]|[Ll][Pp][Tt])[0-9])(?:[./]|\Z))"
_PART = rf"{_DEVICE}[A-Za-z0-9_][A-Za-z0-9._-]*(?<!\.)"
# One expression for the whole path: a release may have some hundred thousand.
_SAFE = re.compile(rf"{_PART}(?:/{_PART}){{0,{MAX_DEPTH - 1}}}\Z")


def require_safe_path(path: str) -> str:
    """Return the path when it is safe.

    Raises:
        VerificationError: cause ``path``.
    """
    if not _is_safe(path):
        raise VerificationError("path", f"unsafe path in the release: {path[:80]!r}", remedy="do not use this release")
    return path


def require_distinct_paths(paths: Iterable[str]) -> None:
    """Refuse paths that some file system would take for one another, or a file that is another's folder.

    Raises:
        VerificationError: cause ``path``.
    """
    seen: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        folded = require_safe_path(path).casefold()
        if folded in seen:
            raise VerificationError("path", f"two files share the path {path!r} when case is ignored")
        seen.add(folded)
        parts = folded.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if clash := seen & folders:
        raise VerificationError("path", f"{min(clash)!r} is both a file and a folder")


def files_in(folder: Path) -> dict[str, int]:
    """Every regular file below a folder, by safe relative path, with its size in bytes.

    Raises:
        VerificationError: cause ``path`` (a link, a device, an unsafe name), ``file-missing`` (no such folder) or
            ``file-extra`` (litter of the operating system).
    """
    files, litter = files_and_litter(folder)
    if litter:
        raise litter_error(litter)
    return files


def files_and_litter(folder: Path) -> tuple[dict[str, int], list[str]]:
    """As `files_in`, and apart from that the paths of what operating systems left (``litter``), whose names may be any.

    A file whose name is a safe one as well (``Thumbs.db``) is among both: whether somebody signed it is not known here.

    Raises:
        VerificationError: cause ``path`` or ``file-missing``.
    """
    if not folder.is_dir():
        raise VerificationError("file-missing", f"no release folder at {folder}", remedy="check the path")
    files: dict[str, int] = {}
    litter: list[str] = []
    for path, size, left in _walk(str(folder), ""):
        if left:
            litter.append(path)
        if not left or _is_safe(path):
            files[path] = size
    return files, litter


def read_regular(folder: Path, path: str, limit: int) -> bytes:
    """Read one file of a release, without following a link and never more than ``limit`` bytes.

    Raises:
        VerificationError: cause ``path``, ``file-missing`` or ``file-size``.
    """
    descriptor = open_regular(folder, path)
    try:
        data = bytes_of(descriptor, limit)
    finally:
        os.close(descriptor)
    if data is None:
        raise VerificationError("file-size", f"{path} is larger than {limit} bytes")
    return data


def open_regular(folder: Path, path: str) -> int:
    """Open one file of a release for reading and return its descriptor; a link or device is refused.

    Raises:
        VerificationError: cause ``path`` or ``file-missing``.
    """
    return open_plain(f"{folder}{os.sep}{require_safe_path(path)}", path)


def open_plain(place: str, path: str) -> int:
    """Open a file as `open_regular` does; its path in the release was checked before.

    Args:
        place: where it lies.
        path: its path in the release, for the message.
    """
    try:
        descriptor = os.open(place, _FLAGS)
    except FileNotFoundError as error:
        raise VerificationError("file-missing", f"{path} is missing", remedy="fetch the release again") from error
    except OSError as error:
        raise VerificationError("path", f"{path} cannot be opened as a plain file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VerificationError("path", f"{path} is not a plain file")
    return descriptor


def _is_safe(path: str) -> bool:
    return len(path) <= MAX_PATH_CHARACTERS and _SAFE.match(path) is not None


def _walk(folder: str, prefix: str, depth: int = 1, *, litter: bool = False) -> Iterator[tuple[str, int, bool]]:
    """Path, size and whether it is litter, of every file."""
    if depth > MAX_DEPTH:
        raise VerificationError("path", f"folders are nested too deeply: {prefix[:80]!r}")
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if entry.is_file(follow_symlinks=False):
                left = litter or is_litter_file(entry.name)
                yield path if left else require_safe_path(path), entry.stat(follow_symlinks=False).st_size, left
            elif entry.is_dir(follow_symlinks=False):
                left = litter or is_litter_folder(entry.name)
                within = (path if left else require_safe_path(path)) + "/"
                yield from _walk(entry.path, within, depth + 1, litter=left)
            else:
                raise VerificationError(
                    "path", f"{path[:80]!r} is a link or a device", remedy="do not use this release"
                )
