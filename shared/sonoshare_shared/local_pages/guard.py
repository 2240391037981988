"""What stands before every page: Host, session, forms, size, and the headers of each answer.

A request is refused, in this order: another Host (421), another method than GET, HEAD and POST (405), no session (403),
a form that a browser says comes from elsewhere (403), a body that is no form, too long or too slow (415, 413, 408), a
form without the session's word (403). A fault of the pages is answered with 500, and only its kind and place are
logged: its words may be of a patient.
"""

import asyncio
import logging
import traceback
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sonoshare_shared.local_pages.door import ENTRANCE, Door
from sonoshare_shared.local_pages.rendering import entered_page, fault_page, refusal_page

STATIC_PATH: Final = "/static/"
FORM_WORD: Final = "form_word"
MAX_BODY_BYTES: Final = 64 << 10
BODY_SECONDS: Final = 10.0
_MOST_FIELDS: Final = 100
_FORM: Final = "sonoshare.form"
_SESSION: Final = "sonoshare.session"
_FOR_STRANGERS: Final = "A console of SonoShare"
"""Who has no session is not told whose it is: pages of others, and other users of this machine, can ask, too."""
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_log = logging.getLogger(__name__)

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class RefusedRequestError(Exception):
    """A request that is not let through.

    Attributes:
        status: of the answer.
        words: why.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


def form_of(request: Request) -> Mapping[str, str]:
    """The fields of the form that was sent, checked by the guard; of a name that comes twice the last."""
    form: Mapping[str, str] = request.scope[_FORM]
    return form


def session_of(request: Request) -> str:
    """The session's cookie, as the guard has let it in: what goes on after the answer asks the door again with it."""
    session: str = request.scope[_SESSION]
    return session


class Guard:
    """ASGI middleware; the application behind it sees paths without the session's root.

    Args:
        app: the pages.
        static: style sheets and scripts, which need no session; it knows nothing of one.
        door: who may enter.
        title: of the pages, for refusals.
        body_seconds: how long a form may take to arrive.
    """

    def __init__(
        self, app: ASGIApp, static: ASGIApp, door: Door, title: str, body_seconds: float = BODY_SECONDS
    ) -> None:
        self._app, self._static, self._door, self._title, self._body_seconds = app, static, door, title, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            return  # no page has a socket, and nothing is to be started
        answer = _Answer(send)
        try:
            response = await self._answer(scope, receive, answer)
        except RefusedRequestError as error:
            response = refusal_page(_FOR_STRANGERS, error.status, error.words)
        except HTTPException as error:
            response = refusal_page(_FOR_STRANGERS, error.status_code, "There is nothing here.")
        except Exception as error:  # noqa: BLE001 - whatever it is, its words stay here
            _log.error("a page failed: %s at %s", type(error).__name__, _place_of(error))
            response = fault_page(self._title)
        if response is not None and not answer.started:
            await response(scope, receive, answer)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """Pass the request on, or give what is answered without the pages."""
        headers, path = Headers(scope=scope), str(scope["path"])
        if headers.get("host", "") not in self._door.hosts:
            raise RefusedRequestError(421, "This server has another address.")
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            raise RefusedRequestError(405, "There is nothing to do that way.")
        if path.startswith(STATIC_PATH):
            await self._static(scope, receive, send)
            return None
        if path == ENTRANCE:
            return self._enter(scope)
        root = self._door.root
        admitted = filter(self._door.admits, _cookies(headers, self._door.cookie_name))
        session = next(admitted, None) if path.startswith(f"{root}/") else None
        if session is None:
            raise RefusedRequestError(
                403, "Open the link that the terminal shows. It works once; to get another, start the console again."
            )
        inner: dict[str, Any] = {**scope, "path": path[len(root) :], "root_path": "", _SESSION: session}
        inner["raw_path"] = inner["path"].encode()
        if scope["method"] == "POST":
            body = await self._form_body(headers, receive)
            inner[_FORM] = self._checked_form(body)
            receive = _again(body, receive)
        await self._app(inner, receive, send)
        return None

    def _enter(self, scope: Scope) -> Response:
        cookie = None
        if scope["method"] == "GET":
            cookie = self._door.enter(QueryParams(scope["query_string"].decode("latin-1")).get("secret", ""))
        if cookie is None:
            raise RefusedRequestError(
                403, "This link was used, or is too old. Start the console again: it shows another."
            )
        response = entered_page(self._title, f"{self._door.root}/")
        response.set_cookie(self._door.cookie_name, cookie, path=self._door.root, httponly=True, samesite="strict")
        return response

    async def _form_body(self, headers: Headers, receive: Receive) -> bytes:
        # Our pages send no referrer, and so the origin "null": what Sec-Fetch-Site says decides.
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise RefusedRequestError(403, "This form comes from another site.")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
            raise RefusedRequestError(415, "This is not a form.")
        body: bytes = b""
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > MAX_BODY_BYTES:
                        raise RefusedRequestError(413, "The form is too long.")
                    if not message.get("more_body", False):
                        return body
        except TimeoutError:
            raise RefusedRequestError(408, "The form did not arrive in time.") from None

    def _checked_form(self, body: bytes) -> Mapping[str, str]:
        try:
            form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
        except ValueError:
            raise RefusedRequestError(415, "This is not a form.") from None
        if not self._door.knows_form(form.get(FORM_WORD)):
            raise RefusedRequestError(403, "This form is not of this session: open the page again, and send it anew.")
        return form


class _Answer:
    """A send that adds our headers, and knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send, self.started = send, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await self._send(message)


def _again(body: bytes, receive: Receive) -> Receive:
    """A receive that gives a body that was read before, then what comes after it."""
    given = False

    async def received() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return received


def _cookies(headers: Headers, name: str) -> list[str]:
    """Every cookie of a name. Other servers of this machine set cookies for it too, of this name and of any form."""
    pairs = (part.strip().partition("=") for part in ";".join(headers.getlist("cookie")).split(";"))
    return [value for given, _, value in pairs if given == name]


def _place_of(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
