"""Frames over the agent's Unix socket: ``u64 length, frame`` in each direction, one request per connection.

An empty frame asks whether the agent lives; the answer is ``idle``, or for how many seconds it is at a request.
"""

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.documents.exchange import MAX_FRAME_BYTES

_LENGTH: Final = struct.Struct(">Q")
_BLOCK_BYTES: Final = 1 << 20
PULSE_FRAME: Final = b""
"""Asks for nothing but a sign of life: no request is empty."""
IDLE: Final = b"idle"
PULSE_SECONDS: Final = 1.0
_TURNED_AWAY_SECONDS: Final = 0.05


def send_frame(connection: socket.socket, frame: bytes, seconds: float | None = None) -> None:
    """Send one frame.

    Args:
        connection: to the peer.
        frame: what is sent.
        seconds: how long all of it may take; None for as long as the socket's own timeout lets each part take.

    Raises:
        OSError: the peer is gone or does not take it in time.
    """
    if seconds is not None:
        connection.settimeout(seconds)  # sendall counts down over all its parts
    connection.sendall(_LENGTH.pack(len(frame)))
    connection.sendall(frame)


def any_length(_length: int) -> None:
    """Takes every frame that is not too long for everybody."""


def receive_frame(
    connection: socket.socket, seconds: float | None = None, admit: Callable[[int], None] = any_length
) -> bytes:
    """Receive one frame.

    Args:
        connection: to the peer.
        seconds: how long all of it may take; None for as long as the socket's own timeout lets each part take.
        admit: told the announced length before any of it is read; what it raises, refuses the frame.

    Raises:
        FederationError: the peer closed the connection early or announced too long a frame.
        OSError: the frame did not cross in time.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    (length,) = _LENGTH.unpack(_receive_exactly(connection, _LENGTH.size, deadline))
    if length > MAX_FRAME_BYTES:
        raise FederationError(
            f"a frame of more than {MAX_FRAME_BYTES >> 20} MiB was announced", remedy="check the peer's version"
        )
    admit(length)
    return _receive_exactly(connection, length, deadline)


def ask_agent(socket_path: Path, frame: bytes, timeout_seconds: float) -> bytes:
    """Pass a request frame to the agent and return its reply frame.

    Raises:
        FederationError: the agent does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(str(socket_path))
            send_frame(connection, frame)
            return receive_frame(connection)
    except OSError as error:
        raise FederationError(
            "the hospital's agent does not answer", remedy="start it with: sonoshare hospital start"
        ) from error


@dataclass(frozen=True)
class Pulse:
    """Whether an agent lives.

    Attributes:
        state: ``answering``; ``hung``: it is there and does not answer in time; ``stopped``.
        busy: seconds for which it has been at its present request; None if it waits for one.
    """

    state: Literal["answering", "hung", "stopped"]
    busy: float | None = None


def pulse_of(socket_path: Path, seconds: float = PULSE_SECONDS) -> Pulse:
    """Ask an agent whether it lives; it answers while it works, and its log says nothing of it.

    One that turns peers away, because every connection is taken, lives: it is asked again until the time is over.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(seconds)
                connection.connect(str(socket_path))
                return _pulse_over(connection, seconds)
        except TimeoutError:
            return Pulse("hung")
        except (ConnectionResetError, BrokenPipeError, FederationError):
            if time.monotonic() > end:
                return Pulse("hung")
            time.sleep(_TURNED_AWAY_SECONDS)
        except (OSError, ValueError):
            return Pulse("stopped")


def _pulse_over(connection: socket.socket, seconds: float) -> Pulse:
    send_frame(connection, PULSE_FRAME, seconds)
    busy = receive_frame(connection, seconds)
    return Pulse("answering", None if busy == IDLE else float(busy))


def _receive_exactly(connection: socket.socket, length: int, deadline: float | None) -> bytes:
    received = bytearray()
    while len(received) < length:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the frame did not cross in time")
            connection.settimeout(left)
        block = connection.recv(min(_BLOCK_BYTES, length - len(received)))
        if not block:
            raise FederationError("the peer closed the connection early", remedy="see the agent's log")
        received += block
    return bytes(received)
