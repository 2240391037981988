"""Flower's SuperLink with two listeners on one application.

Stock Flower serves fleet, control and runtime routes on one port, and control routes need no login: whoever reaches
the port can start runs. Here the whole application listens on loopback only, and a second listener, the one that is
published, serves the fleet routes, the health check and a courier's question whether it is admitted (`link_check`), and
answers 404 to anything else. Both take up a renewed certificate while they run (`certificate`).

Run as ``python -m sonoshare_server.federation.superlink PUBLIC_HOST:PORT -- <flower-superlink arguments>``.
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from sonoshare_server.federation.certificate import RenewedCertificate
from sonoshare_server.federation.flower import FLEET_PREFIX, run_superlink
from sonoshare_server.federation.layers import ask_fewer_layers
from sonoshare_server.federation.link_check import LinkCheck
from sonoshare_server.paths import HOME_VARIABLE, CoordinatorPaths
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.link import HEALTH_PATH


class FleetOnly:
    """An ASGI application that lets fleet routes and the health check through, and nothing else."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = str(scope.get("path", ""))
        if scope["type"] == "http" and (path == HEALTH_PATH or _is_fleet(path)):
            await self._application(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})


def _is_fleet(path: str) -> bool:
    return path.startswith(f"{FLEET_PREFIX}/") and ".." not in path and "//" not in path


def serve_publicly(host: str, port: int) -> None:
    """Make the coming ``uvicorn.run`` also serve the fleet routes on ``host:port``."""
    run_privately, home = uvicorn.run, CoordinatorPaths(Path(os.environ[HOME_VARIABLE]))

    def run_both(app: ASGIApp, **options: Any) -> None:
        if isinstance(app, Starlette):
            ask_fewer_layers(app)
        certificate = RenewedCertificate(options["ssl_certfile"], options["ssl_keyfile"])
        public = uvicorn.Config(
            LinkCheck(FleetOnly(app), home),
            host=host,
            port=port,
            lifespan="off",
            access_log=False,
            ssl_keyfile=options["ssl_keyfile"],
            ssl_certfile=options["ssl_certfile"],
            ssl_context_factory=certificate.context,
        )
        threading.Thread(target=uvicorn.Server(public).run, daemon=True, name="fleet-listener").start()
        certificate.watch()
        run_privately(app, **options, ssl_context_factory=certificate.context)

    vars(uvicorn)["run"] = run_both


def main() -> None:
    """Start the SuperLink with both listeners."""
    address, separator, *arguments = sys.argv[1:]
    if separator != "--":
        sys.exit("usage: superlink PUBLIC_HOST:PORT -- <flower-superlink arguments>")
    host, _, port = address.rpartition(":")
    serve_publicly(host, int(port))
    sys.argv = ["flower-superlink", *arguments]
    try:
        run_superlink()
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
