"""What surrounds every answer: strict headers, and a limit on what a request may send.

No page of the catalogue has a script, an inline style or anything from another host, and the policy says so.
"""

import contextlib
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES: Final = 16 << 10

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


class Protection:
    """ASGI middleware: adds ``HEADERS`` unless the answer has its own, and cuts off long bodies with 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guard = _Guard(receive, send)
        with contextlib.suppress(_TooLargeError):
            await self._app(scope, guard.receive, guard.send)
        if guard.too_large and not guard.started:
            await guard.refuse()


class _Guard:
    """One request's receive and send."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._received = 0
        self.started = False

    @property
    def too_large(self) -> bool:
        """Whether the body so far is longer than the limit."""
        return self._received > MAX_BODY_BYTES

    async def receive(self) -> Message:
        """Pass on a message unless the body has become too long."""
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self.too_large:
            raise _TooLargeError
        return message

    async def send(self, message: Message) -> None:
        """Pass on a message with our headers; what is said about a body that was cut off is dropped."""
        if self.too_large and not self.started:
            return
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def refuse(self) -> None:
        """Answer 413."""
        self._received = 0
        body = b'{"error": "too-large", "message": "the request is too large"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": 413, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class _TooLargeError(Exception):
    """The request's body is longer than anything that the catalogue takes."""
