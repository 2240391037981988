"""One route of our own on the published listener: tells a courier whether its key is admitted (``protocol.link``).

Everything else goes on to the application behind it. The answer is to whoever holds the key, and says no more than that
hospital's own roster does. A question is at most 4 KiB; what is malformed or not signed is answered with 400. One that
does not arrive within ``BODY_SECONDS`` has its connection closed.
"""

import asyncio
import base64
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from sonoshare_server.federation.registered import read_retired, same_key
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.link import LINK_PATH, MOST_REQUEST_BYTES, LinkAnswer, asking_key

BODY_SECONDS: Final = 10.0
"""For the whole question, however many parts it comes in: a courier sends it at once."""


class LinkCheck:
    """An ASGI application that answers couriers, and passes on what is for the application behind it.

    Args:
        application: the one behind.
        home: the coordinator's folder.
        body_seconds: how long a question may take to arrive.
    """

    def __init__(self, application: ASGIApp, home: CoordinatorPaths, body_seconds: float = BODY_SECONDS) -> None:
        self._application, self._home, self._body_seconds = application, home, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope.get("path") != LINK_PATH or scope.get("method") != "POST":
            await self._application(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await _body(receive)
        except TimeoutError:
            await _say(send, 408, b"{}", close=True)
            return
        try:
            # In a thread: a signature and a file, while fleet routes go on.
            answer, status = (await asyncio.to_thread(_answer, self._home, body)).to_bytes(), 200
        except (IntegrityError, OSError):
            answer, status = b"{}", 400
        await _say(send, status, answer)


async def _say(send: Send, status: int, answer: bytes, *, close: bool = False) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _answer(home: CoordinatorPaths, question: bytes) -> LinkAnswer:
    line = asking_key(question)
    roster = _roster(home)
    if roster is not None:
        # A key that its hospital is replacing counts until the new one is online.
        replaced: dict[str, list[str]] = {}
        for one in read_retired(home):
            if one.why == "rotated" and not one.off:
                replaced.setdefault(one.hospital, []).append(one.key)
        for entry in roster.hospitals:
            if any(same_key(key, line) for key in (entry.node_key, *replaced.get(entry.id, ()))):
                return LinkAnswer(admitted=True, hospital=entry.id, roster_version=roster.version)
    return LinkAnswer(admitted=False, hospital=None, roster_version=None)


async def _body(receive: Receive) -> bytes:
    """The request's body, or nothing if it is longer than a question can be."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MOST_REQUEST_BYTES or message["type"] == "http.disconnect":
            return b""
        if not message.get("more_body", False):
            return body


def _roster(home: CoordinatorPaths) -> Roster | None:
    """The newest roster, as the coordinator's own folder holds it."""
    if not home.roster_path.exists():
        return None
    return Roster.from_bytes(base64.b64decode(Envelope.load(home.roster_path).payload))
