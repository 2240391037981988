"""``/healthz`` and ``/metrics`` of a running role, on loopback, for this site's own monitoring.

    GET /healthz   200 or 503, {"healthy": true, "parts": {"agent": true, "courier": true}}
    GET /metrics   figures in the text format of Prometheus

It is a process of its own beside the role and reads the role's files (``monitor_figures``): a hospital's agent has no
network, and does not get one by being watched. It listens on loopback addresses only, answers only requests that name
one (no page in a browser can read it under a name of its own), and takes no input but the path.

Not promised: that other users of this machine do not read it.

Run as ``python -m sonoshare_deploy.monitor hospital|coordinator HOME HOST:PORT``.
"""

import ipaddress
import json
import os
import sys
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from sonoshare_client.node.paths import NewNode
from sonoshare_deploy.addresses import endpoint, require_free
from sonoshare_deploy.monitor_figures import RoleFigures, coordinator_figures, hospital_figures
from sonoshare_deploy.processes import Supervised, Supervisor
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.errors import InputError

Watched = Literal["hospital", "coordinator"]
REQUEST_SECONDS: Final = 10.0
_LOCALHOST: Final = "localhost"


def loopback_endpoint(address: str) -> tuple[str, int]:
    """Host and port of a loopback address.

    Raises:
        InputError: it is malformed, or others could reach it.
    """
    host, port = endpoint(address)
    if not _is_loopback(host):
        raise InputError(
            f"'{host}' is not a loopback address", remedy="watch on 127.0.0.1, and put what asks on this machine"
        )
    return host, port


def _is_loopback(host: str) -> bool:
    try:
        return host == _LOCALHOST or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class MonitorPart:
    """The process that answers, as a part of the role that it watches.

    Args:
        watched: kind of role.
        home: its folder.
        address: ``host:port`` on loopback.
        supervisor: starts it.

    Raises:
        InputError: the address is not a loopback one, or its port is busy.
    """

    name = "monitor"

    def __init__(self, watched: Watched, home: Path, address: str, supervisor: Supervisor) -> None:
        require_free(*loopback_endpoint(address))
        self._command = [sys.executable, "-P", "-m", "sonoshare_deploy.monitor", watched, str(home.absolute()), address]
        self._supervisor = supervisor
        self._process: Supervised | None = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start it."""
        self._process = self._supervisor.start(self.name, self._command, dict(os.environ))

    def end(self) -> None:
        """End it."""
        if self._process is not None:
            self._supervisor.end(self._process)

    def last_words(self) -> str:
        """How it ended, or what it said last."""
        return "" if self._process is None else self._process.cause()


class Monitor(ThreadingHTTPServer):
    """Answers for one role.

    Args:
        host: a loopback address.
        port: 0 takes a free one.
        figures: of the role.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, figures: RoleFigures) -> None:
        super().__init__((host, port), _Handler)
        self.figures, self.registry = figures, CollectorRegistry()
        self.registry.register(figures)


class _Handler(BaseHTTPRequestHandler):
    server: Monitor
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer one request."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if not _is_loopback(host):
            self._answer(403, "text/plain", b"")
        elif self.path == "/healthz":
            health = self.server.figures.health
            self._answer(200 if health.healthy else 503, "application/json", json.dumps(asdict(health)).encode())
        elif self.path == "/metrics":
            self._answer(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.server.registry))
        else:
            self._answer(404, "text/plain", b"")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: who asks every few seconds would fill the log."""


def main() -> None:
    """Answer until ended."""
    watched, home, address = sys.argv[1:]
    figures = (
        hospital_figures(NewNode(Path(home)).state)
        if watched == "hospital"
        else coordinator_figures(CoordinatorPaths(Path(home)))
    )
    try:
        Monitor(*loopback_endpoint(address), figures).serve_forever()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
