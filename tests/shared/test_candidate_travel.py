"""A candidate's payload: what is unpacked is what the digest stands for, and it takes no second copy of the payload."""

import struct
import tracemalloc

import pytest

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, CandidateImage
from sonoshare_shared.protocol.release.transfer import pack, unpack

ADAPTER = b"adapter" * 10
FILE_BYTES = 50_000
IMAGES = [bytes([number]) * FILE_BYTES for number in range(40)]
MASKS = [bytes([100 + number]) * FILE_BYTES for number in range(40)]
FILES = {layout.image_path(i): data for i, data in enumerate(IMAGES)} | {
    layout.mask_path(i): data for i, data in enumerate(MASKS)
}


def listing() -> bytes:
    listed = [
        CandidateImage(index=i, image=sha256_hex(a), mask=sha256_hex(b), label="x", scanner="unknown", box=None)
        for i, (a, b) in enumerate(zip(IMAGES, MASKS, strict=True))
    ]
    return Candidate(
        release="r1",
        study="study",
        plan_digest="0" * 64,
        model_digest=sha256_hex(ADAPTER),
        seed=1,
        size=32,
        images=tuple(listed),
    ).canonical()


LISTING = listing()
PAYLOAD = pack(LISTING, ADAPTER, FILES.__getitem__)


def test_what_was_packed_is_unpacked_in_order_and_as_often_as_asked() -> None:
    files = unpack(PAYLOAD, sha256_hex(LISTING))
    assert (files.candidate.canonical(), files.adapter) == (LISTING, ADAPTER)
    for _ in range(2):
        assert (list(files.images), list(files.masks)) == (IMAGES, MASKS)
    assert (len(files.images), len(files.masks)) == (40, 40)


def test_no_second_copy_of_a_payload_is_made() -> None:
    digest = sha256_hex(LISTING)
    unpack(PAYLOAD, digest)
    tracemalloc.start()
    files = unpack(PAYLOAD, digest)
    total = sum(len(data) for data in files.images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 40 * FILE_BYTES
    assert peak < len(PAYLOAD) / 8


@pytest.mark.parametrize("cut", [1, 3, FILE_BYTES, FILE_BYTES + 4, len(PAYLOAD) - 3, len(PAYLOAD)])
def test_a_cut_payload_is_refused(cut: int) -> None:
    with pytest.raises(IntegrityError):
        unpack(PAYLOAD[: len(PAYLOAD) - cut], sha256_hex(LISTING))


@pytest.mark.parametrize("place", [0, 3, 4, 10, len(LISTING) + 8, len(LISTING) + 80, len(PAYLOAD) - 1])
def test_one_changed_byte_is_refused(place: int) -> None:
    changed = bytearray(PAYLOAD)
    changed[place] ^= 1
    with pytest.raises(IntegrityError):
        unpack(bytes(changed), sha256_hex(LISTING))


def test_one_part_more_is_refused() -> None:
    with pytest.raises(IntegrityError, match="files that it lists"):
        unpack(PAYLOAD + struct.pack(">I", 0), sha256_hex(LISTING))
