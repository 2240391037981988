"""What ``benchmarks.catalogue`` measures: a catalogue with many releases, nginx over the same folder, plain clients.

The catalogue runs in a process of its own, as ``sonoshare catalogue serve`` does with one worker, without rate limits;
the same application also answers ``/constant``: the bytes of its list, from memory. The many releases are one release
under many names, each shown through the store as any is. nginx has one worker, ``sendfile`` and nothing else set.
"""

import json
import multiprocessing
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import psutil
import uvicorn
from starlette.responses import Response
from tests.server.catalogue_fixture import Clock
from tests.shared.consortium import NOW, RELEASE, Consortium

from sonoshare_server.catalogue.app import bound, create_app, server_config
from sonoshare_server.catalogue.public_log import OwnLog
from sonoshare_server.catalogue.publishing import publish
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import open_storage

LOOPBACK: Final = "127.0.0.1"
LIST: Final = "/api/v1/releases"
NGINX: Final = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
_HEAD_BYTES: Final = 65536


@dataclass(frozen=True)
class Running:
    """A server.

    Attributes:
        port: on loopback.
        process: its process.
    """

    port: int
    process: psutil.Process

    @property
    def memory_mb(self) -> float:
        """What it and its children have resident, without what they share."""
        family = [self.process, *self.process.children(recursive=True)]
        return float(sum(one.memory_info().rss for one in family)) / 1e6


def settings_of(made: Consortium, folder: Path) -> CatalogueSettings:
    """Of a catalogue without limits."""
    return CatalogueSettings(
        database=folder / "catalogue.db",
        roster=made.signed_roster,
        clock=Clock(),
        log=OwnLog(made.folder / "log.jsonl", made.coordinator, Clock()),
        grants_per_minute=1_000_000,
        requests_per_minute=1_000_000_000,
    )


def fill(made: Consortium, folder: Path, count: int) -> None:
    """Publish the consortium's release, and show it under so many names in all."""
    settings = settings_of(made, folder)
    with closing(open_storage(settings)) as storage:
        verified = publish(storage.releases, storage.blobs, made.folder / RELEASE, settings.roster(), now=NOW)
        stored = storage.releases.find(RELEASE)
        if stored is None:
            raise AssertionError(RELEASE)
        for number in range(1, count):
            name, sequence = f"{RELEASE}-{number}", stored.sequence + number
            summary = dict(stored.summary) | {"release": name, "sequence": sequence}
            manifest = verified.manifest.model_copy(update={"release": name, "sequence": sequence})
            shown = replace(stored, release=name, sequence=sequence, summary=summary)
            storage.releases.show(replace(verified, manifest=manifest), shown, now=NOW)


def _serve(made: Consortium, folder: Path, ready: Connection) -> None:
    app = create_app(settings_of(made, folder))
    seen = app.state.catalogue.storage.releases.listed(None, 100)
    constant = json.dumps({"releases": seen, "next": "x" * 40}, separators=(",", ":")).encode()

    @app.get("/constant")
    def answer() -> Response:
        return Response(constant, media_type="application/json")

    with bound(LOOPBACK, 0) as listener:
        ready.send(listener.getsockname()[1])
        uvicorn.Server(server_config(app)).run([listener])


@contextmanager
def catalogue(made: Consortium, folder: Path) -> Iterator[Running]:
    """The catalogue, in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(made, folder, there))
    process.start()
    try:
        if not here.poll(60):
            raise AssertionError("the catalogue does not start")
        port = here.recv()
        _wait(port)
        yield Running(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.join(20)
        process.kill()


@contextmanager
def nginx(served: Path, folder: Path) -> Iterator[Running]:
    """Nginx over a folder."""
    if NGINX is None:
        raise FileNotFoundError("nginx")
    with socket.create_server((LOOPBACK, 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "nginx.conf").write_text(
        f"daemon off; user root; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        "events { worker_connections 256; }\n"
        f"http {{ sendfile on; access_log off; server {{ listen {LOOPBACK}:{port}; root {served}; }} }}\n"
    )
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "start.log")]
    process = subprocess.Popen(command)
    try:
        _wait(port)
        yield Running(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(20)


def _wait(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


class Client:
    """One connection, with as little of its own as can be: what is measured is the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.create_connection((LOOPBACK, port), timeout=60)

    def get(self, path: str) -> bytes:
        """The body of a good answer.

        Raises:
            AssertionError: the answer is none.
        """
        status, body = self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        if status != 200:
            raise AssertionError(f"{path}: {status}")
        return body

    def send(self, request: bytes) -> tuple[int, bytes]:
        """Send bytes; status (0: closed without a word) and body of the answer. The next one has a new connection."""
        try:
            self._socket.sendall(request)
            data = self._socket.recv(_HEAD_BYTES)
            while data and b"\r\n\r\n" not in data:
                data += (more := self._socket.recv(_HEAD_BYTES))
                if not more:
                    break
        except OSError:
            data = b""
        if not data.startswith(b"HTTP/1.1 "):
            self.again()
            return 0, b""
        head, _, body = data.partition(b"\r\n\r\n")
        fields = head.lower()
        length = int(fields.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in fields else 0
        parts, have = [body], len(body)
        while have < length and not request.startswith(b"HEAD"):
            part = self._socket.recv(1 << 20)
            if not part:
                break
            parts.append(part)
            have += len(part)
        if b"connection: close" in fields:
            self.again()
        return int(head[9:12]), b"".join(parts)

    def again(self) -> None:
        """Connect anew."""
        self._socket.close()
        self._socket = socket.create_connection((LOOPBACK, self._port), timeout=60)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
