"""What surrounds every answer: strict headers, and limits on what a request may send and how long it may take.

No page of the catalogue has a script, an inline style or anything from another host, and the policy says so.
"""

import asyncio
import contextlib
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sonoshare_server.catalogue import problems

MAX_BODY_BYTES: Final = 16 << 10
BODY_SECONDS: Final = 10.0
"""For the whole body, however many parts it comes in."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


_KEPT: Final = {"Cache-Control": "public, no-cache"}
"""Style sheets may be kept, and are asked for by their ETag."""


class Protection:
    """ASGI middleware: adds ``HEADERS`` unless the answer has its own; cuts off long bodies (413) and slow ones (408).

    Args:
        app: what is protected.
        body_seconds: how long a body may take to arrive.
    """

    def __init__(self, app: ASGIApp, body_seconds: float = BODY_SECONDS) -> None:
        self._app, self._body_seconds = app, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guard = _Guard(receive, send, self._body_seconds)
        guard.kept = scope["path"].startswith("/static/")
        with contextlib.suppress(_CutOffError):
            await self._app(scope, guard.receive, guard.send)
        if guard.cut_off and not guard.started:
            await guard.refuse()


class _Guard:
    """One request's receive and send."""

    def __init__(self, receive: Receive, send: Send, body_seconds: float) -> None:
        self._receive, self._send = receive, send
        self._received, self._whole = 0, False
        self._end = asyncio.get_running_loop().time() + body_seconds
        self._refusal: tuple[int, str, str] | None = None
        self.started = False
        self.kept = False

    @property
    def cut_off(self) -> bool:
        """Whether the body was longer than the limit, or did not arrive in time."""
        return self._refusal is not None

    async def receive(self) -> Message:
        """Pass on a message unless the body has become too long, or takes too long."""
        try:
            # Behind the body comes word that the peer has gone, which is waited for as long as an answer takes.
            async with asyncio.timeout_at(None if self._whole else self._end):
                message = await self._receive()
        except TimeoutError:
            self._refusal = 408, "too-slow", "the request did not arrive in time"
            raise _CutOffError from None
        self._received += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._received > MAX_BODY_BYTES:
            self._refusal = 413, "too-large", "the request is too large"
            raise _CutOffError
        return message

    async def send(self, message: Message) -> None:
        """Pass on a message with our headers; what is said about a body that was cut off is dropped."""
        if self.cut_off and not self.started:
            return
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in (HEADERS | (_KEPT if self.kept else {})).items():
                headers.setdefault(name, value)
        await self._send(message)

    async def refuse(self) -> None:
        """Say why; what is left of the body is not read, so the connection ends."""
        if self._refusal is None:
            return
        (status, error, words), self._refusal = self._refusal, None
        body = problems.body(status, error, words)
        headers = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class _CutOffError(Exception):
    """The request's body is longer than anything that the catalogue takes, or takes too long to arrive."""
