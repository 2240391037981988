"""What Flower moves of a frame: few parts, because each costs a request, and the frame comes out of them again."""

from types import SimpleNamespace
from typing import Any

import pytest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from sonoshare_client.courier.flower import content_of, frame_in
from sonoshare_server.federation import fleet
from sonoshare_server.federation.flower import ConfigRecord, RecordDict
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents.exchange import KeysRequest, encode_frame
from sonoshare_shared.protocol.frame_parts import RECORD_BYTES, WHOLE_BYTES, frame_parts


def message(content: RecordDict) -> Any:
    """A message; Flower's own takes the run's number from the process that it runs in."""
    return SimpleNamespace(content=content)


@pytest.mark.parametrize(("size", "parts"), [(0, 2), (WHOLE_BYTES, 2), (WHOLE_BYTES + 1, 3), (RECORD_BYTES + 1, 5)])
def test_a_message_has_few_parts_and_the_frame_comes_out_of_them(size: int, parts: int) -> None:
    frame = encode_frame(KeysRequest(), bytes(size))
    request, answer = fleet._content(frame_parts(frame), {}), content_of(frame)
    assert len(get_all_nested_objects(request)) == parts
    assert frame_in(message(request)) == frame
    assert len(get_all_nested_objects(answer)) == (5 if size > RECORD_BYTES else 2)
    assert fleet._frame_of(message(answer)) == frame


def test_a_payload_that_is_no_bytes_is_refused() -> None:
    content = fleet._content((b"document", bytes(WHOLE_BYTES + 1)), {})
    content["payload"] = ConfigRecord({"bytes": "text"})
    with pytest.raises(IntegrityError):
        frame_in(message(content))
