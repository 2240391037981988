"""sha256 of many files of a release, each read once, at about the speed of ``sha256sum`` or better.

Most files of a release are small, and most of their time is the interpreter's, which threads only get into the way of:
they are hashed one after the other into one buffer. Large files are hashed meanwhile, a thread each.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Final

from sonoshare_shared.protocol.release.paths import open_plain

LARGE_BYTES: Final = 256 << 10
_BUFFER_BYTES: Final = 256 << 10
_MOST_THREADS: Final = 4


def digests_of(folder: Path, sizes: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Path and sha256 (hex) of each file; the small ones first, otherwise in the order given.

    Args:
        folder: the release.
        sizes: bytes of each file by its path, which is a safe one; they decide only where it is hashed.

    Raises:
        VerificationError: cause ``path`` or ``file-missing``.
        OSError: a file cannot be read.
    """
    place = f"{folder}{os.sep}"
    large = [path for path, size in sizes.items() if size >= LARGE_BYTES]
    pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "digest")
    try:
        # Buffers are made when a thread begins with a file: there are as many as threads, however many files there are.
        hashing = [(path, pool.submit(_large_digest, place, path)) for path in large]
        buffer = bytearray(_BUFFER_BYTES)
        for path, size in sizes.items():
            if size < LARGE_BYTES:
                yield path, _digest(place, path, buffer)
        for path, digest in hashing:
            yield path, digest.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _large_digest(place: str, path: str) -> str:
    return _digest(place, path, bytearray(_BUFFER_BYTES))


def _digest(place: str, path: str, buffer: bytearray) -> str:
    with FileIO(open_plain(place + path, path)) as file, memoryview(buffer) as view:
        count = file.readinto(view) or 0
        digest = hashlib.sha256(view[:count])
        # A short read of a plain file is its end, and saves a call a file.
        while count == len(buffer):
            count = file.readinto(view) or 0
            digest.update(view[:count])
    return digest.hexdigest()
