"""Frames in two parts: the same bytes again, one payload the same for everybody, and nothing that is no frame."""

import pytest
import torch

from sonoshare_privacy.masking.pair_masks import WORD_BYTES
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol import frame_parts as module
from sonoshare_shared.protocol.documents.exchange import MAX_FRAME_BYTES, KeysRequest, encode_frame
from sonoshare_shared.protocol.frame_parts import frame_parts, joined_frame
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import PROFILES


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_frame_comes_back_as_it_was(size: int) -> None:
    frame = encode_frame(KeysRequest(), bytes(size))
    document, payload = frame_parts(frame)
    assert payload == bytes(size)
    assert joined_frame(document, payload) == frame


@pytest.mark.parametrize("junk", [b"", b"\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x09{}"])
def test_what_is_no_frame_passes_unchanged_and_is_refused_where_it_is_read(junk: bytes) -> None:
    assert joined_frame(*frame_parts(junk)) == junk


def test_the_payload_is_the_same_for_every_hospital() -> None:
    one = encode_frame(KeysRequest(), b"payload")
    other = encode_frame(KeysRequest(challenges={"north": "0" * 64}), b"payload")
    assert frame_parts(one)[0] != frame_parts(other)[0]
    assert frame_parts(one)[1] == frame_parts(other)[1]


@pytest.mark.parametrize(("document", "payload"), [(None, b""), (b"", None), ("text", b""), (b"", 7), ([b""], b"")])
def test_a_message_without_a_frame_is_refused(document: object, payload: object) -> None:
    with pytest.raises(IntegrityError):
        joined_frame(document, payload)


def test_a_frame_of_more_than_the_most_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FRAME_BYTES", 50)
    with pytest.raises(IntegrityError, match="a frame of more than"):
        joined_frame(bytes(30), bytes(30))


def test_the_largest_step_of_all_fits_a_frame() -> None:
    """One with pooled noise that trains everything of a profile: an adapter, and the sum before it."""
    with torch.device("meta"):
        networks = [ConditionedUNet(profile) for profile in PROFILES.values()]
    numbers = max(sum(tensor.numel() for tensor in network.parameters()) for network in networks)
    assert numbers * (4 + WORD_BYTES) + (8 << 20) < MAX_FRAME_BYTES
