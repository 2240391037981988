"""A catalogue in processes of its own, apart from the coordinator's agents: one listening socket, some workers.

The parent binds the socket and opens the database once, so that what is wrong is said before anybody is served; then
each worker opens its own. A worker that dies or hangs is replaced. They share nothing but the database and the store of
files, so the same may run on several machines.
"""

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from sonoshare_server.catalogue.app import bound, server_config

BACKLOG = 2048
Make = Callable[[], FastAPI]


def serve(make: Make, host: str, port: int, *, workers: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted or terminated.

    Args:
        make: makes the application, in each worker; picklable where there are several.
        host: address to listen on.
        port: 0 takes a free one.
        workers: processes; one of them is this process itself.
        ready: is told the address as soon as connections are taken.

    Raises:
        FederationError: the port is in use or may not be used, or the database cannot be reached.
        InputError: a setting cannot be used.
    """
    with bound(host, port) as listener:
        first = make()
        listener.listen(BACKLOG)
        ready(f"http://{_named(host)}:{listener.getsockname()[1]}")
        if workers == 1:
            uvicorn.Server(server_config(first)).run([listener])
            return
        first.state.catalogue.storage.close()
        _several(make, listener, workers)


def _several(make: Make, listener: socket.socket, workers: int) -> None:
    config = server_config(make, factory=True, workers=workers)
    Multiprocess(config, uvicorn.Server(config).run, [listener]).run()


def _named(host: str) -> str:
    return f"[{host}]" if ":" in host else host
