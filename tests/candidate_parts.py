"""A candidate's stream in memory, as `sonoshare_shared.protocol.release.transfer` reads it from files."""

import struct
from collections.abc import Callable

from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate


def stream_of(listing: bytes, adapter: bytes, read: Callable[[str], bytes]) -> bytes:
    """The stream of a listing, an adapter, and the files that ``read`` gives by their paths."""
    parts = [listing, adapter]
    for image in Candidate.from_bytes(listing).images:
        parts += [read(layout.image_path(image.index)), read(layout.mask_path(image.index))]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)
