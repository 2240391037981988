"""Parent: a ZIP archive becomes a folder that intake reads like any other, or is refused whole.

| refused | because |
|---|---|
| a name with ``..``, a drive, a backslash, a control character, or from the root | it would be written elsewhere |
| a link, a device, a pipe | what it leads to is not in the archive |
| two names that differ in case or Unicode form alone, a file in a folder's place | one would hide the other |
| entries that share bytes, or grow beyond `MOST_GROWTH` times, or more than the bounds in all | bombs |
| encryption, and compression other than deflate | it cannot be read, or bounded |

Nothing is written before the whole list is checked. What an entry says of its length is not believed: reading stops
there. The folder is private and is gone when the block ends; what a kill left of one is removed by the next.
"""

import os
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from sonoshare_client.intake.limits import DEFAULT_LIMITS
from sonoshare_shared.durable import put
from sonoshare_shared.errors import InputError
from sonoshare_shared.locks import locked

MOST_ENTRIES: Final = 200_000
MOST_UNPACKED_BYTES: Final = 64 << 30
MOST_GROWTH: Final = 200
"""A picture that is all black grows a thousandfold; small files may (`SMALL_BYTES`)."""
SMALL_BYTES: Final = 4 << 20
_MOST_DIRECTORY_BYTES: Final = 64 << 20
_RESERVE_BYTES: Final = 1 << 30
_LONGEST_NAME: Final = 512
_LONGEST_PART_BYTES: Final = 255
"""What a file system takes as the name of one file or folder."""
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1
_LOCAL_HEADER_BYTES: Final = 30
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
_IN_THE_OTHER: Final = 0xFFFFFFFF
_LAST_BYTES: Final = (1 << 16) + 200
_BROKEN: Final = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error),
    *(EOFError, NotImplementedError, ValueError),
)
"""What reading an archive raises where it is not as it should be."""
_REMEDY: Final = "make the archive again from the plain folder, or ingest the folder"


@contextmanager
def unpacked(archive: Path, folder: Path) -> Iterator[Path]:
    """Unpack an archive for as long as the block runs.

    Args:
        archive: the ZIP file.
        folder: where it is unpacked; made and removed here. One archive at a time.

    Yields:
        The folder, or the one folder in it where everything lies in one.

    Raises:
        InputError: the archive is refused, the disk has no room, or another is being unpacked.
    """
    busy = InputError("another archive is being unpacked", remedy="wait until it is taken in")
    with locked(folder.with_name(f"{folder.name}.lock"), busy):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            _unpack(archive, folder)
            yield _only_folder(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with archive.open("rb") as file:
            if _directory_bytes(file) > _MOST_DIRECTORY_BYTES:
                raise _refused(archive, "its list of files is too long")
            with zipfile.ZipFile(file) as opened:
                entries = opened.infolist()
                check_entries(entries, archive, shutil.disk_usage(folder).free - _RESERVE_BYTES)
                for entry in entries:
                    if not _is_folder(entry):
                        put(folder, entry.filename, _content(opened, entry, archive))
    except _BROKEN as error:
        raise _refused(archive, "it is broken, or no ZIP file") from error


def check_entries(entries: Sequence[zipfile.ZipInfo], archive: Path, room: int) -> None:
    """Check a whole list of entries before one is written.

    Args:
        entries: of the archive.
        archive: for messages.
        room: bytes that the disk has for them.

    Raises:
        InputError: one of them is refused; says which kind, and its number, never its name.
    """
    if len(entries) > MOST_ENTRIES:
        raise _refused(archive, f"it has more than {MOST_ENTRIES} entries")
    for number, entry in enumerate(entries, start=1):
        if reason := _fault(entry):
            raise _refused(archive, f"entry {number} {reason}")
    _check_collisions(entries, archive)
    _check_overlaps(entries, archive)
    if sum(entry.file_size for entry in entries) > min(room, MOST_UNPACKED_BYTES):
        raise _refused(archive, "it would take more room than there is, or than is permitted")


def _fault(entry: zipfile.ZipInfo) -> str:
    name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
    parts = name.removesuffix("/").split("/")
    faults = {
        "has a name that is no plain path": len(name) > _LONGEST_NAME or not name.isprintable() or "\\" in name,
        "has a name that no disk takes": any(len(os.fsencode(part)) > _LONGEST_PART_BYTES for part in parts),
        "names a drive": ":" in name,
        "leads out of the folder": any(part in {"", ".", ".."} for part in parts),
        "is a link or a device": kind not in {0, stat.S_IFDIR if _is_folder(entry) else stat.S_IFREG},
        "is encrypted": entry.flag_bits & _ENCRYPTED,
        "is compressed in a way that is not read here": entry.compress_type not in _METHODS,
        "is too large": entry.file_size > DEFAULT_LIMITS.file_bytes,
        "grows too much": entry.file_size > max(SMALL_BYTES, MOST_GROWTH * entry.compress_size),
    }
    return next((fault for fault, found in faults.items() if found), "")


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is a folder; ``ZipInfo.is_dir`` cannot say it of a name that begins with a zero byte."""
    return entry.filename.endswith("/")


def _check_collisions(entries: Sequence[zipfile.ZipInfo], archive: Path) -> None:
    """Names are compared as the least careful file system would; folders count as names, too."""
    seen: dict[str, tuple[str, bool]] = {}
    for number, entry in enumerate(entries, start=1):
        parts = entry.filename.rstrip("/").split("/")
        for depth in range(1, len(parts) + 1):
            path, is_file = "/".join(parts[:depth]), depth == len(parts) and not _is_folder(entry)
            folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())
            known = folded in seen
            if seen.setdefault(folded, (path, is_file)) != (path, is_file) or (known and is_file):
                raise _refused(archive, f"entry {number} has the name of another, or one that differs in case alone")


def _check_overlaps(entries: Sequence[zipfile.ZipInfo], archive: Path) -> None:
    """Entries that share their bytes are how a small archive becomes endless."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise _refused(archive, "its entries share bytes")
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size


def _content(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, archive: Path) -> bytes:
    with opened.open(entry) as file:
        data = file.read(entry.file_size + 1)
    if len(data) != entry.file_size:
        raise _refused(archive, "an entry is not as long as it says")
    return data


def _directory_bytes(file: BinaryIO) -> int:
    """Length of the list of entries, which is read whole before anything can be said of it."""
    size = file.seek(0, 2)
    start = max(0, size - _LAST_BYTES)
    file.seek(start)
    last = file.read()
    file.seek(0)
    place, large = last.rfind(_END), last.rfind(_END_64)
    if place < 0:
        raise zipfile.BadZipFile("no end")
    (length,) = struct.unpack_from("<I", last, place + 12)
    (length_64,) = struct.unpack_from("<Q", last, large + 40) if large >= 0 else (0,)
    return int(length_64 if length == _IN_THE_OTHER else max(length, length_64))


def _only_folder(folder: Path) -> Path:
    inside = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _refused(archive: Path, why: str) -> InputError:
    return InputError(f"{archive.name} is refused: {why}", remedy=_REMEDY)
