"""A candidate on its way to the hospitals: ``candidate.json``, its adapter, and every file it lists, as one payload.

The payload is a sequence of parts, each as ``u32 length, bytes``: ``candidate.json``, the adapter the images were
drawn from, and then, for each image in the candidate's order, the image and the mask. Unpacking checks every digest,
so what a hospital audits is exactly what the candidate's digest stands for. Nothing is unpacked to disk, and no name
from the payload is ever used. A file is copied out of it only while it is looked at.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate

_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True)
class CandidateFiles:
    """A candidate and its files, every digest checked.

    Attributes:
        candidate: the listing.
        digest: sha256 of ``candidate.json``.
        adapter: safetensors of the adapter that the candidate names.
        images: bytes of each image file, in the candidate's order; copied out of the payload when one is asked for.
        masks: bytes of each mask file, in the same order; likewise.
    """

    candidate: Candidate
    digest: str
    adapter: bytes
    images: "PayloadFiles"
    masks: "PayloadFiles"


class PayloadFiles:
    """Files that lie in a payload.

    Args:
        parts: where each one lies.
    """

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = tuple(parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[bytes]:
        return map(bytes, self._parts)


def pack(candidate: bytes, adapter: bytes, read: Callable[[str], bytes]) -> bytes:
    """Make the payload.

    Args:
        candidate: the bytes of ``candidate.json``.
        adapter: the adapter's safetensors bytes.
        read: gives the bytes of a file of the candidate by its path.
    """
    parts = [candidate, adapter]
    for image in Candidate.from_bytes(candidate).images:
        parts += [read(layout.image_path(image.index)), read(layout.mask_path(image.index))]
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def unpack(payload: bytes, expected_digest: str) -> CandidateFiles:
    """Open a payload and check it against the candidate's digest.

    Raises:
        IntegrityError: truncated, a file too many or too few, or a digest that differs.
    """
    parts = list(_parts(memoryview(payload).toreadonly()))
    if not parts or _digest(parts[0]) != expected_digest:
        raise IntegrityError("the candidate is not the one that was announced")
    candidate = Candidate.from_bytes(bytes(parts[0]))
    if len(parts) < 2 or _digest(parts[1]) != candidate.model_digest:
        raise IntegrityError("the adapter is not the one that the candidate names")
    files = parts[2:]
    if len(files) != 2 * len(candidate.images):
        raise IntegrityError("the candidate does not come with the files that it lists")
    for listed, image, mask in zip(candidate.images, files[::2], files[1::2], strict=True):
        if (_digest(image), _digest(mask)) != (listed.image, listed.mask):
            raise IntegrityError(f"file {listed.index} of the candidate has another digest than listed")
    images, masks = PayloadFiles(files[::2]), PayloadFiles(files[1::2])
    return CandidateFiles(candidate, expected_digest, bytes(parts[1]), images, masks)


def _digest(part: memoryview) -> str:
    return sha256(part).hexdigest()


def _parts(payload: memoryview) -> Iterator[memoryview]:
    offset = 0
    while offset < len(payload):
        if offset + _LENGTH.size > len(payload):
            raise IntegrityError("the candidate is truncated", remedy="send it again")
        (length,) = _LENGTH.unpack_from(payload, offset)
        offset += _LENGTH.size
        if offset + length > len(payload):
            raise IntegrityError("the candidate is truncated", remedy="send it again")
        yield payload[offset : offset + length]
        offset += length
