"""What an archive holds: a tar of plain files and folders, and at its end the sha256 of each.

``write_archive`` writes one and reads it again to its end before it says that it is there. ``read_archive`` takes one
apart into a folder that nobody sees yet, and believes it only when every file has its digest and none is missing.

Promise: names that lead out of the folder, links and devices are refused; files come back with the permissions they
had. Not promised: owners, times, links, and file names that are not UTF-8.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sonoshare_shared.backup.sealing import COST, Header, fresh_header, read_header, seal, unseal
from sonoshare_shared.durable import put_parts, write_parts_atomically
from sonoshare_shared.errors import InputError, IntegrityError

MANIFEST: Final = ".sonoshare-backup.json"
_BLOCK: Final = tarfile.BLOCKSIZE
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file or a folder that is put into an archive.

    Attributes:
        name: its path in the folder, with slashes.
        mode: its permissions.
        size: bytes of the file.
        parts: of the file; None for a folder.
    """

    name: str
    mode: int
    size: int = 0
    parts: Iterable[bytes] | None = None


@dataclass
class Content:
    """What an archive turned out to hold.

    Attributes:
        files: sha256 of each file, by name.
        size: bytes of all files.
    """

    files: dict[str, str] = field(default_factory=dict)
    size: int = 0


def write_archive(out: Path, members: Iterable[Member], kind: str, passphrase: str, *, cost: int = COST) -> Content:
    """Write an archive whole and durably, mode 0600, and read it again to its end.

    Args:
        out: the file; not there yet.
        members: what goes into it; a folder before what lies in it.
        kind: ``hospital`` or ``coordinator``.
        passphrase: that opens it.
        cost: of one try of a passphrase (``sealing``).

    Raises:
        InputError: the file is there already.
        IntegrityError: what was written does not read back; it is removed.
        OSError: it could not be written; nothing is there.
    """
    if out.exists():
        raise InputError(f"{out.name} exists", remedy="give another name: a backup never replaces another")
    header = fresh_header(kind, cost)
    cipher, written = header.cipher(passphrase), Content()
    write_parts_atomically(out, seal(_tar(members, written), header, cipher), mode=0o600)
    try:
        _read_back(out, kind, cipher, written)
    except BaseException:
        out.unlink()
        raise
    return written


def _read_back(out: Path, kind: str, cipher: AESGCM, written: Content) -> None:
    with out.open("rb") as file:
        if _unpack(file, read_header(file, kind), cipher, None).files != written.files:
            raise IntegrityError("the backup does not read back as it was written", remedy="try another disk")


def read_archive(archive: Path, kind: str, passphrase: str, into: Path | None) -> Content:
    """Check an archive to its end, and take it apart.

    Args:
        archive: the file.
        kind: ``hospital`` or ``coordinator``.
        passphrase: that opens it.
        into: an empty folder that nobody reads until this returns; None to check alone.

    Raises:
        InputError: it is another role's.
        IntegrityError: another passphrase, or the archive was changed or cut.
        OSError: a file cannot be written.
    """
    with archive.open("rb") as file:
        header = read_header(file, kind)
        return _unpack(file, header, header.cipher(passphrase), into)


def _tar(members: Iterable[Member], written: Content) -> Iterator[bytes]:
    for member in members:
        info = tarfile.TarInfo(member.name)
        info.mode, info.size = member.mode, member.size
        info.type = tarfile.DIRTYPE if member.parts is None else tarfile.REGTYPE
        yield info.tobuf(tarfile.PAX_FORMAT)
        if member.parts is not None:
            yield from _content(member, written)
    said = json.dumps({"schema": "sonoshare/backup/v1", "files": written.files}, sort_keys=True).encode()
    info = tarfile.TarInfo(MANIFEST)
    info.size = len(said)
    yield info.tobuf(tarfile.PAX_FORMAT) + said + bytes(-len(said) % _BLOCK) + bytes(2 * _BLOCK)


def _content(member: Member, written: Content) -> Iterator[bytes]:
    digest, left = hashlib.sha256(), member.size
    for part in member.parts or ():
        digest.update(part)
        left -= len(part)
        yield part
    if left:
        raise IntegrityError(f"{member.name} changed while it was copied", remedy="run the same command again")
    yield bytes(-member.size % _BLOCK)
    written.files[member.name] = digest.hexdigest()
    written.size += member.size


class _Plain:
    """The decrypted stream as a file, for ``tarfile``."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, b""

    def read(self, size: int) -> bytes:
        while len(self._left) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._left += chunk
        given, self._left = self._left[:size], self._left[size:]
        return given


def _unpack(file: BinaryIO, header: Header, cipher: AESGCM, into: Path | None) -> Content:
    plain = _Plain(unseal(file, header, cipher))
    found, said = Content(), None
    try:
        with tarfile.open(fileobj=plain, mode="r|") as tar:  # type: ignore[call-overload] # a stream needs read alone
            for entry in tar:
                if said is not None:
                    raise _broken("something stands behind its list of files")
                if entry.name == MANIFEST:
                    said = json.loads(_read(tar, entry))["files"]
                else:
                    _take(tar, entry, found, into)
    except (tarfile.TarError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _broken("it cannot be read") from error
    while plain.read(_READ_BYTES):
        pass  # to the end, which says that it is the end
    if said != found.files:
        raise _broken("its files are not those of its list")
    return found


def _take(tar: tarfile.TarFile, entry: tarfile.TarInfo, found: Content, into: Path | None) -> None:
    path = PurePosixPath(entry.name)
    if path.is_absolute() or not path.parts or ".." in path.parts or entry.name in found.files:
        raise _broken("a name in it leads elsewhere")
    if entry.isdir():
        if into is not None:
            (into / path).mkdir(mode=0o700)
            (into / path).chmod(entry.mode & 0o777)  # the archive's word, whatever the umask
        return
    source = tar.extractfile(entry) if entry.isreg() else None
    if source is None:
        raise _broken("it holds something that is no file")
    digest = hashlib.sha256()

    def parts() -> Iterator[bytes]:
        while part := source.read(_READ_BYTES):
            digest.update(part)
            yield part

    if into is None:
        for _ in parts():
            pass
    else:
        put_parts(into, entry.name, parts(), mode=entry.mode & 0o777)
    found.files[entry.name] = digest.hexdigest()
    found.size += entry.size


def _read(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    source = tar.extractfile(entry)
    return b"" if source is None else source.read()


def _broken(cause: str) -> IntegrityError:
    return IntegrityError(f"the backup is damaged: {cause}", remedy="take another copy of it")
