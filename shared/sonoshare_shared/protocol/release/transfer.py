"""A candidate on its way to the hospitals: ``candidate.json``, its adapter and every file it lists, as one stream.

The stream is a sequence of parts, each as ``u32 length, bytes``: ``candidate.json``, the adapter that the images were
drawn from, and then, for each image in the candidate's order, the image and the mask. The address of the whole is the
digest of its first part, and each later part has a digest in it.

``Outgoing`` reads any stretch of the stream from the files on the disk. ``StreamCheck`` takes stretches in turn and
checks each part when it ends; ``candidate_in`` gives the files of a stream that lies in a file, each checked whenever
it is read. No name from a stream is ever used.

Promise: memory for one stretch, the listing and the file that is being looked at, however large the candidate is.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, chain
from pathlib import Path
from typing import Final

from sonoshare_shared.errors import IntegrityError, NotHeldError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import MAX_FRAME_BYTES
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate

_LENGTH: Final = struct.Struct(">I")
_PNG_BESIDES_BYTES: Final = 64 << 10
"""What a plain PNG may have besides its pixels, and those may be stored as they are."""
_SEND_AGAIN: Final = "send it again"


class Outgoing:
    """The stream of a candidate, read from its files whenever a stretch of it is asked for.

    Args:
        listing: file of ``candidate.json``.
        adapter: file of the adapter.
        folder: where the images and masks lie by their paths.

    Attributes:
        digest: address of the candidate.
        size: bytes of the stream.
    """

    def __init__(self, listing: Path, adapter: Path, folder: Path) -> None:
        data = listing.read_bytes()
        self.digest = sha256_hex(data)
        pairs = ((layout.image_path(i.index), layout.mask_path(i.index)) for i in Candidate.from_bytes(data).images)
        self._paths = (listing, adapter, *(folder / path for path in chain.from_iterable(pairs)))
        self._sizes = tuple(path.stat().st_size for path in self._paths)
        *self._starts, self.size = accumulate((size + _LENGTH.size for size in self._sizes), initial=0)

    def read(self, start: int, most: int) -> bytes:
        """The stretch of the stream that begins at a byte; shorter than ``most`` only at the stream's end.

        Raises:
            IntegrityError: a file has another length than before.
        """
        stretch, wanted = bytearray(), min(most, self.size - start)
        place = bisect_right(self._starts, start) - 1
        while len(stretch) < wanted:
            within = start + len(stretch) - self._starts[place]
            stretch += self._of_part(place, within, wanted - len(stretch))
            place += 1
        return bytes(stretch)

    def _of_part(self, place: int, within: int, most: int) -> bytes:
        """Bytes of one part and the length in front of it."""
        head = _LENGTH.pack(self._sizes[place])[within : within + most]
        begin = max(0, within - _LENGTH.size)
        wanted = min(most - len(head), self._sizes[place] - begin)
        with self._paths[place].open("rb") as file:
            file.seek(begin)
            data = file.read(wanted)
        if len(data) != wanted:
            raise IntegrityError("a file of the candidate has changed", remedy="draw the candidate again")
        return head + data


class StreamCheck:
    """Checks a stream that comes in stretches, file by file.

    Args:
        digest: address of the candidate.
        most_listing_bytes: a longer ``candidate.json`` is refused at its beginning; it is held in memory.
        accept: is given the candidate as soon as it is known; what it raises refuses the stream.

    Attributes:
        size: bytes taken so far.
        sound: of these, bytes up to the end of the last part that is whole; each of those parts was checked.
        candidate: the listing, once it has come.
    """

    def __init__(
        self, digest: str, *, most_listing_bytes: int, accept: Callable[[Candidate], None] = lambda _candidate: None
    ) -> None:
        self.size = self.sound = 0
        self.candidate: Candidate | None = None
        self._most_listing_bytes, self._accept = most_listing_bytes, accept
        self._digests, self._places = [digest], list[tuple[int, int]]()
        self._prefix, self._left = bytearray(), 0
        self._hash, self._listing = sha256(), bytearray()

    @property
    def whole(self) -> bool:
        """Whether the stream is at its end."""
        return self.candidate is not None and len(self._places) == len(self._digests)

    def feed(self, stretch: bytes | memoryview) -> None:
        """Take the next stretch. After an error no other may follow.

        Raises:
            IntegrityError: a part has another digest than is listed, or more comes than is listed.
        """
        rest = memoryview(stretch)
        while rest:
            if self.whole:
                raise IntegrityError("more was sent than the candidate lists")
            taken = self._of_length(rest) if len(self._prefix) < _LENGTH.size else self._of_part(rest)
            self.size += taken
            rest = rest[taken:]
            if len(self._prefix) == _LENGTH.size and self._left == 0:
                self._end_part()

    def cut(self) -> None:
        """Forget what came of a part that is not whole: the next stretch begins at ``sound``."""
        self.size, self._prefix, self._left = self.sound, bytearray(), 0
        self._hash, self._listing = sha256(), bytearray()

    def part(self, place: int) -> tuple[int, int, str]:
        """Where a whole part lies in the stream, how long it is, and its digest."""
        return (*self._places[place], self._digests[place])

    def _of_length(self, rest: memoryview) -> int:
        taken = bytes(rest[: _LENGTH.size - len(self._prefix)])
        self._prefix += taken
        if len(self._prefix) == _LENGTH.size:
            (self._left,) = _LENGTH.unpack(self._prefix)
            if self._left > self._most_bytes():
                raise IntegrityError(_too_long(len(self._places)), remedy="sample the candidate by its plan")
        return len(taken)

    def _most_bytes(self) -> int:
        """Of the part that begins: refused at its beginning, nothing of a longer one is kept or read."""
        if self.candidate is None:
            return self._most_listing_bytes
        return MAX_FRAME_BYTES if len(self._places) == 1 else 2 * self.candidate.size**2 + _PNG_BESIDES_BYTES

    def _of_part(self, rest: memoryview) -> int:
        taken = rest[: self._left]
        self._hash.update(taken)
        if self.candidate is None:
            self._listing += taken
        self._left -= len(taken)
        return len(taken)

    def _end_part(self) -> None:
        place, length = len(self._places), _LENGTH.unpack(self._prefix)[0]
        if self._hash.hexdigest() != self._digests[place]:
            raise IntegrityError(_words_for(place), remedy=_SEND_AGAIN)
        if self.candidate is None:
            self._begin(bytes(self._listing))
        self._places.append((self.size - length, length))
        self.sound, self._prefix, self._hash = self.size, bytearray(), sha256()

    def _begin(self, listing: bytes) -> None:
        """The listing has come: what else there is."""
        candidate = Candidate.from_bytes(listing)
        self._accept(candidate)
        self._digests.append(candidate.model_digest)
        self._digests += chain.from_iterable((image.image, image.mask) for image in candidate.images)
        self.candidate, self._listing = candidate, bytearray()


def _too_long(place: int) -> str:
    if place == 0:
        return "the candidate lists more than its plan has"
    return "the adapter is larger than any" if place == 1 else "a file of the candidate is larger than its picture"


def _words_for(place: int) -> str:
    if place == 0:
        return "the candidate is not the one that was announced"
    if place == 1:
        return "the adapter is not the one that the candidate names"
    return f"file {place - 1} of the candidate has another digest than listed"


class HeldFiles:
    """Parts of a stream in a file; each is read, and checked, whenever it is asked for.

    Args:
        path: the file.
        parts: offset, length and digest of each.
    """

    def __init__(self, path: Path, parts: Sequence[tuple[int, int, str]]) -> None:
        self._path, self._parts = path, tuple(parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[bytes]:
        """Bytes of each, in order.

        Raises:
            NotHeldError: the file holds something else by now.
        """
        for offset, length, digest in self._parts:
            try:
                with self._path.open("rb") as file:
                    file.seek(offset)
                    data = file.read(length)
            except OSError:
                data = b""
            if len(data) != length or sha256_hex(data) != digest:
                raise NotHeldError("the candidate that is held has changed on the disk", remedy=_SEND_AGAIN)
            yield data


@dataclass(frozen=True)
class CandidateFiles:
    """A candidate and its files.

    Attributes:
        candidate: the listing.
        digest: sha256 of ``candidate.json``.
        images: bytes of each image file, in the candidate's order.
        masks: bytes of each mask file, in the same order.
    """

    candidate: Candidate
    digest: str
    images: HeldFiles
    masks: HeldFiles
    _adapter: HeldFiles

    @property
    def adapter(self) -> bytes:
        """Safetensors of the adapter that the candidate names.

        Raises:
            NotHeldError: the file holds something else by now.
        """
        return next(iter(self._adapter))


def candidate_in(path: Path, check: StreamCheck, digest: str) -> CandidateFiles:
    """The files of a stream that was checked and lies in a file.

    Args:
        path: the file.
        check: has taken the whole stream.
        digest: address of the candidate.

    Raises:
        IntegrityError: it has not.
    """
    if check.candidate is None or not check.whole:
        raise IntegrityError("the candidate is not whole", remedy=_SEND_AGAIN)
    adapter, *files = (check.part(place) for place in range(1, 2 + 2 * len(check.candidate.images)))
    images, masks = HeldFiles(path, files[::2]), HeldFiles(path, files[1::2])
    return CandidateFiles(check.candidate, digest, images, masks, HeldFiles(path, (adapter,)))
