"""A candidate of forty images of constant bytes, and its stream."""

from collections.abc import Sequence

from tests.candidate_parts import stream_of

from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, CandidateImage

ADAPTER = b"adapter" * 10
FILE_BYTES = 50_000
IMAGES = [bytes([number]) * FILE_BYTES for number in range(40)]
MASKS = [bytes([100 + number]) * FILE_BYTES for number in range(40)]
FILES = {layout.image_path(i): data for i, data in enumerate(IMAGES)} | {
    layout.mask_path(i): data for i, data in enumerate(MASKS)
}


def listing_of(images: Sequence[bytes], masks: Sequence[bytes]) -> bytes:
    """The listing of a candidate of these files."""
    listed = [
        CandidateImage(index=i, image=sha256_hex(a), mask=sha256_hex(b), label="x", scanner="unknown", box=None)
        for i, (a, b) in enumerate(zip(images, masks, strict=True))
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


LISTING = listing_of(IMAGES, MASKS)
DIGEST = sha256_hex(LISTING)
STREAM = stream_of(LISTING, ADAPTER, FILES.__getitem__)
