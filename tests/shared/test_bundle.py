"""Bundles: what goes ahead of a request, what an older one looks like, and what is cut or changed on its way."""

from pathlib import Path

import pytest

from sonoshare_shared.durable import write_parts_atomically
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.bundle import (
    BundleHeader,
    frames_ahead,
    read_bundle,
    read_bundle_file,
    request_bundle,
    write_bundle,
)
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import KeysRequest, encode_frame

FRAME = encode_frame(KeysRequest(), b"the request")
AHEAD = [encode_frame(KeysRequest(), bytes([number]) * 1000) for number in range(3)]


def header() -> BundleHeader:
    digest = sha256_hex(FRAME)
    return BundleHeader(
        kind="request",
        consortium="c",
        hospital="west",
        study="s1",
        what="audit-r1",
        roster=1,
        request=digest,
        frame=digest,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_parts_atomically(tmp_path / "it", request_bundle(header(), lambda: AHEAD, FRAME)[1])
    return tmp_path / "it"


def test_what_goes_ahead_is_read_alone_and_the_request_behind_it(bundle: Path) -> None:
    said, frame = read_bundle_file(bundle)
    assert (said.file_name, frame) == (header().file_name, FRAME)
    assert list(frames_ahead(bundle)) == AHEAD
    assert read_bundle(bundle.read_bytes(), "it") == (said, FRAME)


def test_with_nothing_ahead_it_is_what_it_always_was(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    write_parts_atomically(alone, request_bundle(header(), tuple, FRAME)[1])
    assert alone.read_bytes() == write_bundle(header(), FRAME) == encode_frame(header(), FRAME)
    assert b"ahead" not in alone.read_bytes()
    assert list(frames_ahead(alone)) == []


@pytest.mark.parametrize("cut", [1, len(FRAME), len(FRAME) + 1, len(FRAME) + 2500])
def test_a_bundle_that_was_cut_is_said_so(bundle: Path, cut: int) -> None:
    whole = bundle.read_bytes()
    bundle.write_bytes(whole[:-cut])
    with pytest.raises(IntegrityError, match="was cut or changed on its way"):
        read_bundle_file(bundle)


def test_a_changed_frame_that_goes_ahead_is_noticed_when_it_is_its_turn(bundle: Path) -> None:
    whole = bytearray(bundle.read_bytes())
    whole[-len(FRAME) - 1] ^= 1
    bundle.write_bytes(whole)
    assert read_bundle_file(bundle)[1] == FRAME
    frames = frames_ahead(bundle)
    assert [next(frames), next(frames)] == AHEAD[:2]
    with pytest.raises(IntegrityError, match="was cut or changed on its way"):
        next(frames)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff\xff\xff\xff{}", b"\xff\xd8 a picture"])
def test_what_is_no_bundle_is_said_so(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="it is no bundle, or was cut"):
        read_bundle(data, "it")
