"""A candidate's stream: what is taken is what the digest stands for, in memory for one file, wherever it is cut."""

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.shared.travelling import ADAPTER, DIGEST, FILE_BYTES, FILES, IMAGES, LISTING, MASKS, STREAM, listing_of

from sonoshare_shared.errors import IntegrityError, NotHeldError, RefusedError
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.transfer import CandidateFiles, Outgoing, StreamCheck, candidate_in


def checked(**changes: Any) -> StreamCheck:
    return StreamCheck(DIGEST, **{"most_listing_bytes": len(LISTING), **changes})


def taken(path: Path) -> CandidateFiles:
    """The stream taken in stretches, and lying in a file."""
    check = checked()
    for start in range(0, len(STREAM), 70_001):
        check.feed(STREAM[start : start + 70_001])
    path.write_bytes(STREAM)
    return candidate_in(path, check, DIGEST)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Outgoing:
    folder = tmp_path_factory.mktemp("candidate")
    for name, data in {"candidate.json": LISTING, "adapter": ADAPTER, **FILES}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return Outgoing(folder / "candidate.json", folder / "adapter", folder)


@given(start=st.integers(0, len(STREAM)), most=st.integers(0, 200_000))
def test_any_stretch_of_the_stream_is_read_from_the_files(source: Outgoing, start: int, most: int) -> None:
    assert (source.digest, source.size) == (DIGEST, len(STREAM))
    assert source.read(start, most) == STREAM[start : start + most]


def test_a_file_that_was_cut_under_the_coordinators_hands_is_said_so(tmp_path: Path) -> None:
    listing, adapter = tmp_path / "candidate.json", tmp_path / "adapter"
    listing.write_bytes(listing_of(IMAGES[:1], MASKS[:1]))
    adapter.write_bytes(ADAPTER)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "000000.png").write_bytes(IMAGES[0])
    outgoing = Outgoing(listing, adapter, tmp_path)
    adapter.write_bytes(ADAPTER[:-1])
    with pytest.raises(IntegrityError, match="a file of the candidate has changed"):
        outgoing.read(0, outgoing.size)


def test_what_was_sent_is_there_in_order_and_as_often_as_asked(tmp_path: Path) -> None:
    files = taken(tmp_path / "stream")
    assert (files.candidate.canonical(), files.adapter, files.digest) == (LISTING, ADAPTER, DIGEST)
    for _ in range(2):
        assert (list(files.images), list(files.masks)) == (IMAGES, MASKS)
    assert (len(files.images), len(files.masks)) == (40, 40)


def test_one_file_is_in_memory_at_a_time(tmp_path: Path) -> None:
    taken(tmp_path / "stream")
    tracemalloc.start()
    check = checked()
    with (tmp_path / "stream").open("rb") as file:
        while block := file.read(FILE_BYTES):
            check.feed(block)
    files = candidate_in(tmp_path / "stream", check, DIGEST)
    total = sum(len(data) for data in files.images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 40 * FILE_BYTES
    assert peak < len(STREAM) / 8


@pytest.mark.parametrize("cut", [1, 3, FILE_BYTES, FILE_BYTES + 4, len(STREAM) - 3, len(STREAM)])
def test_a_stream_that_is_not_at_its_end_is_no_candidate(cut: int, tmp_path: Path) -> None:
    check = checked()
    check.feed(STREAM[: len(STREAM) - cut])
    assert (check.whole, check.size) == (False, len(STREAM) - cut)
    with pytest.raises(IntegrityError, match="not whole"):
        candidate_in(tmp_path / "stream", check, DIGEST)


@pytest.mark.parametrize("place", [4, 10, len(LISTING) + 8, len(LISTING) + 80, len(STREAM) - 1])
def test_one_changed_byte_is_refused_and_what_was_sound_before_it_is_known(place: int) -> None:
    changed, check = bytearray(STREAM), checked()
    changed[place] ^= 1
    with pytest.raises(IntegrityError):
        check.feed(bytes(changed))
    assert check.sound <= place
    check.cut()
    check.feed(STREAM[check.size :])
    assert check.whole


def test_more_than_is_listed_is_refused() -> None:
    check = checked()
    check.feed(STREAM)
    with pytest.raises(IntegrityError, match="more was sent"):
        check.feed(b"\x00")


@pytest.mark.parametrize(
    ("before", "length", "words"),
    [
        (b"", len(LISTING) + 1, "lists more than its plan"),
        (STREAM[: 4 + len(LISTING)], 1 << 30, "the adapter is larger than any"),
        (STREAM[: 8 + len(LISTING) + len(ADAPTER)], 100_000, "larger than its picture"),
    ],
)
def test_too_long_a_part_is_refused_at_its_beginning(before: bytes, length: int, words: str) -> None:
    check = checked()
    check.feed(before)
    with pytest.raises(IntegrityError, match=words):
        check.feed(struct.pack(">I", length))


def test_a_listing_that_is_not_accepted_is_refused_before_anything_else_is_taken() -> None:
    def refuse(candidate: Candidate) -> None:
        raise RefusedError(f"not {candidate.release}")

    check = checked(accept=refuse)
    with pytest.raises(RefusedError, match="not r1"):
        check.feed(STREAM)
    assert check.sound == 0


def test_a_file_that_changed_on_the_disk_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    files = taken(path)
    with path.open("r+b") as file:
        file.seek(len(STREAM) - 1)
        file.write(b"\x00")
    assert list(files.images) == IMAGES
    with pytest.raises(NotHeldError, match="has changed on the disk"):
        list(files.masks)
    path.unlink()
    with pytest.raises(NotHeldError, match="has changed on the disk"):
        assert files.adapter
