"""A console's pages: its templates, its navigation, what is said once, and the application that holds its routes.

    pages = LocalPages("Hospital a", "sonoshare_deploy.hospital_console", (("/", "Overview"), ("/studies", "Studies")))
    def studies(request):
        return pages.page(request, "studies", rows=...)
    def approve(request):
        ...; return pages.done("/studies", "study s is approved")
    local_app(pages, [Route("/studies", studies), Route("/approve", approve, methods=["POST"])], door)

Handlers are plain functions, run in threads. An error of the SonoShare tree that a handler raises becomes a page with
its message and remedy (409; 503 where what it has to ask does not answer now). In templates ``{{ root }}`` stands
before every path, and a form begins with ``{{ form_word }}``.
"""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from sonoshare_shared.errors import SonoShareError, StorageError
from sonoshare_shared.local_pages.door import Door
from sonoshare_shared.local_pages.guard import FORM_WORD, Guard
from sonoshare_shared.local_pages.rendering import environment, fault_page, left_page, rendered
from sonoshare_shared.look import STATIC

_MOST_SAID: Final = 20


class LocalPages:
    """The pages of one console.

    Args:
        title: stands on every page.
        package: whose folder ``templates`` holds the console's own templates.
        navigation: paths and words, in the order of work.
        foot: one line at the foot of every page.
        told: makes the commands that a text names pasteable.
    """

    def __init__(
        self,
        title: str,
        package: str,
        navigation: Sequence[tuple[str, str]],
        foot: str = "",
        told: Callable[[str], str] = str,
    ) -> None:
        self.title, self.navigation, self.foot = title, tuple(navigation), foot
        self._templates: jinja2.Environment = environment(package, told)
        self._said: deque[str] = deque(maxlen=_MOST_SAID)
        self.door: Door | None = None

    def page(self, request: Request, name: str, status: int = 200, **values: Any) -> Response:
        """A template, filled in; what was to be said once is said on it."""
        said = [self._said.popleft() for _ in range(len(self._said))]
        return rendered(self._templates, name, status, **self._frame(request), said=said, **values)

    def done(self, path: str, words: str = "") -> Response:
        """After a form: go on to a page (303), and say there what was done."""
        if words:
            self._said.append(words)
        return RedirectResponse(f"{self._opened.root}{path}", 303)

    @property
    def _opened(self) -> Door:
        if self.door is None:
            raise RuntimeError("pages are shown by local_app alone")
        return self.door

    def _frame(self, request: Request) -> dict[str, Any]:
        door = self._opened
        field = Markup('<input type="hidden" name="{}" value="{}">').format(FORM_WORD, door.form_word)
        here = request.url.path
        return {
            "title": self.title,
            "foot": self.foot,
            "root": door.root,
            "form_word": field,
            "navigation": [
                (path, words, here == path or (path != "/" and here.startswith(f"{path}/")))
                for path, words in self.navigation
            ],
        }


def local_app(pages: LocalPages, routes: Sequence[BaseRoute], door: Door, static: Path | None = None) -> ASGIApp:
    """The application: the console's routes behind the guard.

    Args:
        pages: what the handlers show.
        routes: of the console; a path as in ``navigation``, without the session's root.
        door: who may enter.
        static: folder of the console's own scripts, served to everybody under ``/static/own/``; nothing secret.
    """
    pages.door = door

    def leave(_request: Request) -> Response:
        door.leave()
        return left_page(pages.title)

    def failed(request: Request, error: Exception) -> Response:
        words, remedy = (error.message, error.remedy) if isinstance(error, SonoShareError) else ("", "")
        status = 503 if isinstance(error, StorageError) else 409
        return pages.page(request, "failed", status, words=words, remedy=remedy, posted=request.method == "POST")

    def absent(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        return pages.page(request, "failed", status, words="There is nothing here.", remedy="", posted=False)

    def faulty(_request: Request, _error: Exception) -> Response:
        return fault_page(pages.title)  # the guard, which meets the error next, logs its kind and place

    app = Starlette(
        routes=[Route("/leave", leave, methods=["POST"]), *routes],
        exception_handlers={SonoShareError: failed, HTTPException: absent, Exception: faulty},
    )
    app.router.redirect_slashes = False  # a redirect would repeat the Host header, without the root
    own = [] if static is None else [Mount("/static/own", StaticFiles(directory=static))]
    return Guard(app, Router([*own, Mount("/static", StaticFiles(directory=STATIC))]), door, pages.title)
