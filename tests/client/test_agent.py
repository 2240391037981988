"""The agent's stored replies, pinned roster and socket, and the courier that runs no code from the server."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sonoshare_client.agent.replies import ReplyStore, Result
from sonoshare_client.agent.server import AgentServer
from sonoshare_client.node import witness
from sonoshare_client.node.socket import ask_agent, receive_frame, send_frame
from sonoshare_shared.errors import (
    FederationError,
    InputError,
    IntegrityError,
    RefusedError,
    VerificationError,
)
from sonoshare_shared.protocol.documents import HospitalEntry, Roster
from sonoshare_shared.protocol.documents.exchange import KeysRequest, decode_frame, encode_frame
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey


def test_a_result_is_given_again_and_a_taken_slot_refuses_another_request(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "replies")
    assert store.find("train/s/1", "a") is None
    result = Result(Envelope.sign("text", b"what was released", SigningKey.generate()), b"bytes\nwith lines")
    store.store("train/s/1", "a", result)
    assert ReplyStore(tmp_path / "replies").find("train/s/1", "a") == result
    assert list(store.results()) == [result]
    with pytest.raises(RefusedError):
        store.find("train/s/1", "b")
    assert store.find("train/s/2", "b") is None


def roster(root: SigningKey, version: int = 1, **changes: Any) -> Envelope:
    fields = {
        "consortium": "c",
        "version": version,
        "expires": datetime.now(UTC) + timedelta(days=1),
        "root_key": root.public.hex,
        "coordinator_key": SigningKey.generate().public.hex,
        "hospitals": (HospitalEntry(id="h", identity_key=SigningKey.generate().public.hex, node_key="ssh x"),),
        "audit_policy": "0" * 64,
        **changes,
    }
    return Envelope.sign(ROSTER_PAYLOAD_TYPE, Roster(**fields).canonical(), root)


def test_a_roster_is_pinned_by_its_root_and_never_goes_back(tmp_path: Path) -> None:
    root = SigningKey.generate()
    with pytest.raises(InputError, match="not enrolled"):
        witness.pinned_roster(tmp_path)
    witness.enrol(tmp_path, roster(root, 2), root.public)
    witness.enrol(tmp_path, roster(root, 3), root.public)
    assert witness.pinned_roster(tmp_path).version == 3
    with pytest.raises(RefusedError):
        witness.enrol(tmp_path, roster(root, 2), root.public)
    other = SigningKey.generate()
    with pytest.raises(RefusedError):
        witness.enrol(tmp_path, roster(other, 9), other.public)
    with pytest.raises(VerificationError):
        witness.enrol(tmp_path, roster(other, 9), root.public)
    assert witness.pinned_roster(tmp_path).version == 3


def test_two_rosters_of_one_version_are_not_both_pinned(tmp_path: Path) -> None:
    root = SigningKey.generate()
    first = roster(root, 2)
    witness.enrol(tmp_path, first, root.public)
    witness.enrol(tmp_path, first, root.public)
    with pytest.raises(RefusedError, match="another roster of version 2"):
        witness.enrol(tmp_path, roster(root, 2), root.public)


def test_case_57_a_key_that_stands_twice_is_refused() -> None:
    root, key = SigningKey.generate(), SigningKey.generate().public.hex
    twice = tuple(HospitalEntry(id=name, identity_key=key, node_key=f"ssh {name}") for name in ("a", "b"))
    with pytest.raises(ValueError, match="twice"):
        roster(root, hospitals=twice)


class Echo:
    """Answers a frame with its mirror image, and notices when it is asked twice at once."""

    def __init__(self) -> None:
        self.busy, self.twice = threading.Lock(), False

    def answer(self, frame: Any) -> Any:
        if not self.busy.acquire(blocking=False):
            self.twice = True
            return b""
        threading.Event().wait(0.02 if frame == b"slow" else 0)
        self.busy.release()
        return frame[::-1]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts a server with its limits; returns its socket and the agent behind it."""
    started = []

    def start(**limits: Any) -> tuple[Any, Echo]:
        agent = Echo()
        server = AgentServer(tmp_path / "a.sock", agent, **limits)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        started.append(server)
        return tmp_path / "a.sock", agent

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def served(serve: Callable[..., Any]) -> Any:
    return serve()[0]


def peer(path: Any, start: bytes = b"") -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(path))
    connection.sendall(start)
    return connection


@pytest.mark.parametrize("start", [b"", b"\0\0\0", struct.pack(">Q", 100) + b"short"])
def test_a_peer_that_sends_a_little_and_waits_keeps_nobody_waiting(serve: Callable[..., Any], start: bytes) -> None:
    path, _ = serve()
    with peer(path, start), peer(path, start):
        assert ask_agent(path, b"ab", 5) == b"ba"


def test_a_peer_that_is_too_slow_is_let_go_however_often_it_sends_a_byte(serve: Callable[..., Any]) -> None:
    path, _ = serve(frame_seconds=0.2)

    def drip(connection: socket.socket) -> None:
        for _ in range(400):
            connection.sendall(b".")
            threading.Event().wait(0.01)

    with peer(path, struct.pack(">Q", 1000)) as slow, pytest.raises((BrokenPipeError, ConnectionResetError)):
        drip(slow)
    assert ask_agent(path, b"ab", 5) == b"ba"


def test_a_peer_that_does_not_take_its_answer_keeps_nobody_waiting(serve: Callable[..., Any]) -> None:
    path, _ = serve(frame_seconds=30)
    frame = bytes(8 << 20)
    with peer(path, struct.pack(">Q", len(frame)) + frame):
        assert ask_agent(path, b"ab", 5) == b"ba"


def test_connections_are_bounded_and_free_again_when_a_peer_goes(serve: Callable[..., Any]) -> None:
    path, _ = serve(most_connections=2)
    with peer(path), peer(path):
        threading.Event().wait(0.1)
        with pytest.raises(FederationError):
            ask_agent(path, b"ab", 5)
    for _ in range(200):
        with contextlib.suppress(FederationError):
            assert ask_agent(path, b"ab", 5) == b"ba"
            return
        threading.Event().wait(0.01)
    pytest.fail("the connections of peers that went away stay taken")


def test_requests_that_are_not_answered_yet_take_bounded_memory_and_make_room_when_they_go(
    serve: Callable[..., Any],
) -> None:
    """Nothing of a request is signed before it is whole: announced lengths alone would fill the memory."""
    path, _ = serve(most_held_bytes=1000)
    with peer(path, struct.pack(">Q", 900)):
        threading.Event().wait(0.1)
        with pytest.raises(FederationError):
            ask_agent(path, bytes(200), 5)
        assert ask_agent(path, b"ab", 5) == b"ba"
        assert ask_agent(path, b"", 5) == b"idle"
    for _ in range(200):
        with contextlib.suppress(FederationError):
            assert ask_agent(path, bytes(200), 5) == bytes(200)
            return
        threading.Event().wait(0.01)
    pytest.fail("the memory of peers that went away stays taken")


def test_requests_that_come_together_are_answered_one_at_a_time(serve: Callable[..., Any]) -> None:
    path, agent = serve()
    answers = []
    asking = [threading.Thread(target=lambda: answers.append(ask_agent(path, b"slow", 10))) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert answers == [b"wols"] * 8
    assert not agent.twice


def test_frames_cross_the_socket_whole(served: Any) -> None:
    frame = bytes(range(256)) * 20_000
    assert ask_agent(served, frame, 10) == frame[::-1]
    assert served.stat().st_mode & 0o777 == 0o600


def test_a_peer_that_breaks_off_or_announces_too_much_does_not_stop_the_agent(served: Any) -> None:
    for start in (b"", b"\x00\x00", struct.pack(">Q", 100) + b"short", struct.pack(">Q", 1 << 62)):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(served))
            connection.sendall(start)
    assert ask_agent(served, b"ab", 10) == b"ba"


def test_an_agent_that_does_not_run_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="does not answer"):
        ask_agent(tmp_path / "nobody.sock", b"", 1)


def test_a_frame_that_is_too_long_is_refused_before_it_is_read() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(struct.pack(">Q", 1 << 40))
        with pytest.raises(FederationError, match="512 MiB"):
            receive_frame(right)
        send_frame(left, b"next")


@pytest.mark.parametrize("frame", [b"", b"\x00", b"\x00\x00\x00\x09{}", b"\xff\xff\xff\xff{}"])
def test_truncated_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_frame(frame)
    assert decode_frame(encode_frame(KeysRequest(), b"payload")) == (KeysRequest().canonical(), b"payload")
