"""The agent's Unix socket: requests are answered one at a time, and no peer can keep the others waiting.

Each connection has a thread that receives one frame, waits for its turn, and sends the answer. A peer that sends
slowly or not at all, or does not take its answer, costs its own connection: it is closed when a frame has not crossed
within ``FRAME_SECONDS``. At most ``MOST_CONNECTIONS`` are open, a frame has at most 512 MiB, and all that are being
received or wait for their turn ``MOST_HELD_BYTES``; who comes on top is turned away: no signature has been looked at
yet, and the agent must not end for want of memory while it trains. An empty frame is answered at once, whatever is
being worked at: a sign of life.

The socket file's permissions are the access control: 0600, or 0660 with a group that the courier's user is in.

Not promised: that a courier can reach the agent while others, who may open the socket too, hold every connection.
"""

import logging
import os
import socket
import socketserver
import threading
import time
from pathlib import Path
from typing import Any, Final, Protocol

from sonoshare_client.node.socket import IDLE, PULSE_FRAME, receive_frame, send_frame
from sonoshare_shared.errors import FederationError, SonoShareError
from sonoshare_shared.protocol.documents.exchange import MAX_FRAME_BYTES

FRAME_SECONDS: Final = 120.0
"""The largest frame crosses a Unix socket in a few seconds."""

MOST_CONNECTIONS: Final = 16
MOST_HELD_BYTES: Final = 2 * MAX_FRAME_BYTES
_log = logging.getLogger(__name__)


class Answers(Protocol):
    """Whatever answers frames, one at a time."""

    def answer(self, frame: bytes) -> bytes:
        """Answer one request frame."""


class _Held:
    """How many bytes of requests are in memory, or announced."""

    def __init__(self, most: int) -> None:
        self._most, self._held, self._lock = most, 0, threading.Lock()

    def take(self, length: int) -> None:
        """Make room for so many more.

        Raises:
            FederationError: there is none.
        """
        with self._lock:
            if self._held + length > self._most:
                raise FederationError("requests of other peers fill the agent's memory", remedy="ask again later")
            self._held += length

    def give_back(self, length: int) -> None:
        """They are gone."""
        with self._lock:
            self._held -= length


class AgentServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves an agent on a Unix socket.

    Args:
        path: the socket file; a stale one is replaced. Unix limits its length to 107 bytes.
        agent: answers the frames.
        group_access: let the socket file's group connect too.
        group: id of that group; this process's own if absent.
        frame_seconds: how long a frame may take to cross, in each direction.
        most_connections: how many peers may be connected at a time.
        most_held_bytes: how much of all their requests may be in memory.
    """

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self,
        path: Path,
        agent: Answers,
        *,
        group_access: bool = False,
        group: int | None = None,
        frame_seconds: float = FRAME_SECONDS,
        most_connections: int = MOST_CONNECTIONS,
        most_held_bytes: int = MOST_HELD_BYTES,
    ) -> None:
        path.unlink(missing_ok=True)
        self.agent, self.turn, self.frame_seconds = agent, threading.Lock(), frame_seconds
        self._began: float | None = None
        self.held = _Held(most_held_bytes)
        self._room, self._ending = threading.BoundedSemaphore(most_connections), threading.Event()
        super().__init__(str(path), _Handler)
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(0o660 if group_access else 0o600)

    def end(self) -> None:
        """Answer nothing new: who waits for a turn is let go. What is being answered is not waited for."""
        self._ending.set()
        self.shutdown()
        self.server_close()

    @property
    def ending(self) -> bool:
        """Whether nothing new is answered."""
        return self._ending.is_set()

    def answered(self, frame: bytes) -> bytes | None:
        """Answer a request when its turn has come; None where nothing new is answered any more."""
        with self.turn:
            if self.ending:
                return None  # the courier asks again when the agent is back
            self._began = time.monotonic()
            try:
                return self.agent.answer(frame)
            finally:
                self._began = None

    def pulse(self) -> bytes:
        """A sign of life, at once: for how many seconds a request has been worked at, if one is.

        It tells the courier what it knows: a request is being answered until its answer leaves, at its public time.
        """
        began = self._began
        return IDLE if began is None else b"%.0f" % (time.monotonic() - began)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base class passes both
        """Turn a peer away where every connection is taken."""
        if self._room.acquire(blocking=False):
            return True
        _log.warning("a peer was turned away: every connection is taken")
        return False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a peer its thread."""
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread could be started
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one peer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()


class _Handler(socketserver.BaseRequestHandler):
    server: AgentServer
    request: socket.socket

    def handle(self) -> None:
        seconds, held = self.server.frame_seconds, 0

        def admit(length: int) -> None:
            nonlocal held
            self.server.held.take(length)
            held = length

        try:
            frame = receive_frame(self.request, seconds, admit)
            answer = self.server.pulse() if frame == PULSE_FRAME else self.server.answered(frame)
            if answer is not None:
                send_frame(self.request, answer, seconds)
        except (OSError, SonoShareError) as error:
            # The courier went away: its request will come again and find the stored reply.
            _log.warning("connection lost: %s", type(error).__name__)
        finally:
            self.server.held.give_back(held)
