"""The catalogue as an ASGI application, and how it is served.

It listens on this machine only unless told otherwise; TLS is a reverse proxy's. Answers to nonsense are 4xx.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError, TimeoutError  # noqa: A004 - no connection of the pool was free in time
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from sonoshare_server.catalogue.account_pages import Desk, account_router
from sonoshare_server.catalogue.api import Catalogue, api_router
from sonoshare_server.catalogue.drs import drs_router
from sonoshare_server.catalogue.duo import duo_router
from sonoshare_server.catalogue.evidence_api import evidence_router
from sonoshare_server.catalogue.limits import Limits
from sonoshare_server.catalogue.oidc_pages import oidc_router
from sonoshare_server.catalogue.openapi import describe
from sonoshare_server.catalogue.pages import error_page, pages_router
from sonoshare_server.catalogue.problems import Refusal, problem
from sonoshare_server.catalogue.protection import Protection
from sonoshare_server.catalogue.proxies import Proxies, networks_of
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import Storage, open_storage
from sonoshare_shared.errors import FederationError, StorageError, VerificationError
from sonoshare_shared.look import STATIC

LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 15.0


def create_app(settings: CatalogueSettings, storage: Storage | None = None) -> FastAPI:
    """The application over the settings' database, or over another storage."""
    networks_of(settings.trusted_proxies)  # a word that is none is said now, and not at the first request
    catalogue = Catalogue(settings, storage or open_storage(settings))
    app = FastAPI(
        title=f"{settings.title} catalogue",
        version="1",
        openapi_url="/api/v1/openapi.json",
        # The bundled documentation pages load scripts from another host.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the Host header of the request
    )
    app.state.catalogue = catalogue
    app.add_middleware(Limits, per_minute=settings.requests_per_minute)
    app.add_middleware(Protection)
    if settings.trusted_proxies:
        app.add_middleware(Proxies, trusted=settings.trusted_proxies)
    for router in (api_router, evidence_router, duo_router, drs_router):
        app.include_router(router(catalogue))
    app.include_router(pages_router(catalogue))
    if catalogue.storage.people is not None:
        people = catalogue.storage.people
        desk = Desk(catalogue, people)
        app.include_router(account_router(desk))
        app.include_router(oidc_router(desk, people.identities, settings.providers))
    app.mount("/static", StaticFiles(directory=STATIC))
    describe(app)
    _add_error_answers(app, catalogue)
    return app


@dataclass(frozen=True)
class Served:
    """A catalogue that is served in a thread.

    Attributes:
        address: its URL.
        thread: where.
    """

    address: str
    thread: threading.Thread

    @property
    def running(self) -> bool:
        """Whether it still answers."""
        return self.thread.is_alive()


@contextmanager
def serving(app: FastAPI, host: str = LOOPBACK, port: int = 0) -> Iterator[str]:
    """Serve in a thread while the block runs, and give the address; port 0 takes a free one.

    Raises:
        FederationError: as ``served``.
    """
    with served(app, host, port) as catalogue:
        yield catalogue.address


@contextmanager
def served(app: FastAPI, host: str, port: int) -> Iterator[Served]:
    """Serve in a thread while the block runs; port 0 takes a free one.

    Raises:
        FederationError: the port is in use or may not be used, or the server does not start.
    """
    with bound(host, port) as listener:
        server = uvicorn.Server(server_config(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="catalogue", daemon=True)
        thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise FederationError("the catalogue does not start", remedy="see its log")
            time.sleep(0.01)
        try:
            yield Served(f"http://{host}:{listener.getsockname()[1]}", thread)
        finally:
            server.should_exit = True
            thread.join(_START_SECONDS)


def server_config(app: FastAPI | Callable[[], FastAPI], *, factory: bool = False, workers: int = 1) -> uvicorn.Config:
    """How it is served: nothing is said of the server, and no header of a proxy is believed here (`proxies` does).

    Args:
        app: the application, or what makes it.
        factory: whether it is what makes it.
        workers: processes that serve it.
    """
    return uvicorn.Config(
        app,
        factory=factory,
        workers=workers,
        log_level="warning",
        server_header=False,
        access_log=False,
        timeout_graceful_shutdown=5,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        h11_max_incomplete_event_size=64 << 10,
    )


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket with an address of its own that nobody listens on yet.

    Raises:
        FederationError: the port is in use or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise FederationError(
            f"cannot listen on {host}:{port}: {error.strerror if isinstance(error, OSError) else error}",
            remedy="choose another port",
        ) from error
    with listener:
        yield listener


def _add_error_answers(app: FastAPI, catalogue: Catalogue) -> None:
    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        word = error.error if isinstance(error, Refusal) else "http"
        if _wants_page(request):
            return error_page(catalogue, error.status_code, str(error.detail), dict(error.headers or {}))
        return problem(
            error.status_code, word, str(error.detail), path=request.url.path, headers=dict(error.headers or {})
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        if _wants_page(request):
            return error_page(catalogue, 404, "There is nothing here.", {})
        # What was sent is not repeated: it may be personal.
        fields = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()]
        return problem(422, "invalid", "the request is not valid", path=request.url.path, fields=fields)

    @app.exception_handler(VerificationError)
    async def damaged(request: Request, error: VerificationError) -> Response:
        return problem(503, error.cause, "a file of this release is damaged here", path=request.url.path)

    @app.exception_handler(StorageError)
    async def silent(request: Request, error: StorageError) -> Response:  # noqa: ARG001
        return unavailable(request, "storage", "the files of releases cannot be read now")

    @app.exception_handler(OperationalError)
    @app.exception_handler(TimeoutError)
    async def unreachable(request: Request, error: OperationalError | TimeoutError) -> Response:  # noqa: ARG001
        return unavailable(request, "database", "the catalogue's database does not answer")

    def unavailable(request: Request, word: str, words: str) -> Response:
        patience = {"Retry-After": "10"}
        if _wants_page(request):
            return error_page(catalogue, 503, words, patience)
        return problem(503, word, words, path=request.url.path, headers=patience)


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith(("/api/", "/ga4gh/", "/static/"))
