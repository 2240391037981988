"""A long file from a folder, in blocks: read where the connection is, without waiting, while the kernel has it at hand.

Linux gives what is in its memory at once or says that it would have to wait (``RWF_NOWAIT``). Then, and where that is
not known, a thread reads the block, so that a slow disk keeps nobody else waiting. A block is small enough to stay in
the processor's own memory between reading and sending. At most one block of a file is in memory, besides what the
connection has not sent yet.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from io import FileIO
from typing import Final

_BLOCK_BYTES: Final = 256 << 10
_BLOCKS_IN_A_ROW: Final = 16
"""After so many others have their turn, however fast the reader is."""
_NOW: Final = getattr(os, "RWF_NOWAIT", 0)


async def blocks_of(file: FileIO, start: int, end: int) -> AsyncIterator[memoryview]:
    """Bytes ``start`` to ``end`` of an open file, which is closed afterwards; fewer where it is shorter.

    Args:
        file: open for reading, unbuffered.
        start: first.
        end: behind the last.
    """
    with file:
        number = 0
        while start < end:
            block = _at_hand(file.fileno(), start, min(_BLOCK_BYTES, end - start))
            if block is None:
                data = await asyncio.to_thread(os.pread, file.fileno(), min(_BLOCK_BYTES, end - start), start)
                block = memoryview(data)
            if not block:
                return
            start += len(block)
            number += 1
            yield block
            if number % _BLOCKS_IN_A_ROW == 0:
                await asyncio.sleep(0)


def _at_hand(descriptor: int, start: int, count: int) -> memoryview | None:
    """What the kernel has of a block, or None where it would have to wait, or does not know."""
    if not _NOW:
        return None
    block = bytearray(count)
    try:
        read = os.preadv(descriptor, [block], start, _NOW)
    except OSError:
        return None
    return memoryview(block)[:read] if read else None
