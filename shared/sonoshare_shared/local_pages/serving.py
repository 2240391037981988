"""Serve local pages until interrupted: on 127.0.0.1 alone, with one line for a port that cannot be had.

Ctrl-C and SIGTERM end it: what a request is at is waited for some seconds, then it goes.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from sonoshare_shared.errors import InputError
from sonoshare_shared.local_pages.door import LOOPBACK, Door

_GRACE_SECONDS: Final = 3


def serve(build: Callable[[Door], ASGIApp], port: int, announce: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Args:
        build: makes the application.
        port: where; 0 for a free one.
        announce: told the one-time link, once connections are taken; it is a secret, and goes to the terminal alone.

    Raises:
        InputError: the port is in use, or may not be used.
    """
    with listening(port) as listener:
        door = Door(listener.getsockname()[1])
        server = server_of(build(door), door.leave)
        announce(door.link)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


@contextlib.contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket on loopback that takes connections.

    Raises:
        InputError: the port is in use, or may not be used.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
            listener.listen()
        except OSError as error:
            raise InputError(
                f"cannot listen on {LOOPBACK}:{port}: {error.strerror}",
                remedy="choose another with --port, or leave it out for a free one",
            ) from error
        yield listener


class _Server(uvicorn.Server):
    """A server that says when it is told to end: with the session its streams end, and nothing is waited for."""

    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C or SIGTERM."""
        self._ending()
        super().handle_exit(sig, frame)


def _nothing() -> None:
    pass


def server_of(app: ASGIApp, ending: Callable[[], None] = _nothing) -> uvicorn.Server:
    """A server that logs no request, and says nothing of itself.

    Args:
        app: the pages.
        ending: called when it is told to end; here a session ends, and streams end with it.
    """
    return _Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # the one-time secret is in a path
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_GRACE_SECONDS,
            h11_max_incomplete_event_size=64 << 10,
        ),
        ending,
    )
