"""A long file is sent in blocks, whether the kernel has it at hand or a thread reads it."""

import asyncio
from io import FileIO
from pathlib import Path

import pytest

from sonoshare_server.catalogue import sending


@pytest.mark.parametrize("now", [sending._NOW, 0, 1 << 30])
def test_blocks_are_the_bytes_of_the_file_and_end_where_it_does(
    now: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_NOW", now)  # the last is a flag that no kernel knows
    monkeypatch.setattr(sending, "_BLOCK_BYTES", 1000)
    data = bytes(range(256)) * 100
    (tmp_path / "file").write_bytes(data)

    async def read(start: int, end: int) -> list[bytes]:
        file = FileIO(tmp_path / "file")
        blocks = [bytes(block) async for block in sending.blocks_of(file, start, end)]
        assert file.closed
        return blocks

    for start, end in ((0, len(data)), (7, 12_345), (25_000, 99_999), (len(data), len(data) + 5), (5, 5)):
        blocks = asyncio.run(read(start, end))
        assert b"".join(blocks) == data[start:end]
        assert all(len(block) <= 1000 for block in blocks)
