"""A coordinator's published listener on loopback, with its real certificate and route, and no SuperLink behind it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from sonoshare_deploy.addresses import free_ports
from sonoshare_server.federation.certificate import RenewedCertificate
from sonoshare_server.federation.link_check import LinkCheck
from sonoshare_server.federation.superlink import FleetOnly
from sonoshare_server.home import CoordinatorHome


async def _flower(scope: Any, _receive: Any, send: Any) -> None:
    """Stands where Flower's application stands: only its health check is asked for here."""
    await send({"type": "http.response.start", "status": 200 if scope["path"] == "/health" else 500, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def listener(home: CoordinatorHome) -> Iterator[tuple[int, RenewedCertificate]]:
    """Serve while the block runs; gives the port, and the certificate that is in use."""
    certificate = RenewedCertificate(str(home.certificate_path), str(home.certificate_key_path))
    (port,) = free_ports(1)
    config = uvicorn.Config(
        LinkCheck(FleetOnly(_flower), home),
        host="127.0.0.1",
        port=port,
        lifespan="off",
        log_level="error",
        ssl_certfile=str(home.certificate_path),
        ssl_keyfile=str(home.certificate_key_path),
        ssl_context_factory=certificate.context,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield port, certificate
    finally:
        server.should_exit = True
        thread.join(5)
