"""Requests of an enemy, of a seed: what no client sends, byte by byte, some of it no HTTP at all.

Each is a request line, headers or a body that was made wrong: paths that climb, names of devices, cursors and ranges
that are none, invented tokens and cookies, forwarding headers, forms and JSON that are too long or too deep, unknown
methods. Whatever comes back is counted by its status, 0 where the connection was closed without a word.
"""

import base64
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from tests.shared.consortium import RELEASE

from benchmarks._catalogue_world import LIST, Client, Running

_WARM_SHARE: Final = 0.2
_FILES: Final = f"{LIST}/{RELEASE}/files/"
_PATHS: Final = (
    "/", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//evil.example.org/", "/releases/%00", "/releases/a%0d%0ab",
    f"{LIST}/%ff%fe", f"{LIST}/..%2f..", f"{_FILES}../catalogue.db", f"{_FILES}images/../../catalogue.db",
    f"{_FILES}con", f"{_FILES}metadata.csv", f"{_FILES}manifest.json", f"{LIST}?limit=-1", f"{LIST}?limit=1e9",
    f"{LIST}?limit=100&limit=0", f"{LIST}/{RELEASE}/files?limit=1", "/api/v1/log/entries?first=9007199254740992",
    "/api/v1/log/proofs/99999999999999999999", "/api/v1/log/consistency?first=0", "/account/verify?link=" + "a" * 900,
    "/ga4gh/drs/v1/objects/" + "a" * 300, f"/ga4gh/drs/v1/objects/{RELEASE}." + "0" * 64, "/static/../app.py",
    "/static/%2e%2e/app.py", "/?q=%00&task=%ff&page=-1&epsilon=nan", "/?page=99999999999999999999", "*", "a" * 3000,
)  # fmt: skip
_METHODS: Final = ("GET", "GET", "GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "get")
_HEADERS: Final = (
    "", "", "Range: bytes=0-", "Range: bytes=9-1,2-3,4-5", "Range: bytes=-99999999999999999999", "Range: lines=1",
    "Authorization: Bearer sonoshare_" + "x" * 43, "Authorization: Bearer " + "y" * 5000, "Authorization: Basic Og==",
    "Cookie: sonoshare=\x80\xff", "Cookie: " + "a=b; " * 400, "X-Forwarded-For: 1.2.3.4, ::1", "Host: evil.example.org",
    "X-Forwarded-Proto: javascript", "If-None-Match: " + '"a",' * 200, "If-Range: x", "Accept: \x7f", "Origin: null",
    "Sec-Fetch-Site: cross-site", "Expect: 100-continue", "Content-Type: multipart/form-data; boundary=", "Te: x",
)  # fmt: skip


_NO_HTTP: Final = (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def _body(draw: random.Random) -> bytes:
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: b"",
        lambda: draw.randbytes(draw.randrange(300)),
        lambda: b'{"release":' * draw.randrange(1, 900),
        lambda: b"[" * draw.randrange(1, 9000),
        lambda: b'{"release": "' + b"a" * draw.randrange(20_000) + b'"}',
        lambda: b'{"release":"\\ud800","name":"\\u0000","email":"a@b.c","purpose":"xxx","agreement_version":"1.0"}',
        lambda: b"&".join(b"email=%00%ff&password=x" for _ in range(draw.randrange(1, 60))),
    )
    return draw.choice(kinds)()


def _request(draw: random.Random) -> bytes:
    if draw.random() < 0.02:
        return draw.choice(_NO_HTTP)
    method, path = draw.choice(_METHODS), draw.choice(_PATHS)
    if draw.random() < 0.2:
        path = f"{LIST}?cursor={base64.urlsafe_b64encode(draw.randbytes(draw.randrange(40))).decode()}"
    if method == "POST":
        path = draw.choice(("/api/v1/agreements", f"/releases/{RELEASE}/agreement", "/account/sign-in", path))
    body = _body(draw) if method in {"POST", "PUT", "PATCH"} else b""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", draw.choice(_HEADERS), f"Content-Length: {len(body)}"]
    if draw.random() < 0.5:
        lines.append("Content-Type: application/json")
    head = "\r\n".join(filter(None, lines)).encode("latin-1") + b"\r\n\r\n"
    return head + body


def hostile(server: Running, count: int, seed: int = 0) -> dict[str, Any]:
    """Send so many; statuses, and what grew in the server meanwhile."""
    draw, statuses = random.Random(seed), Counter[int]()  # noqa: S311 - nothing secret
    client = Client(server.port)
    memory, files = server.memory_mb, server.process.num_fds()
    for number in range(count):
        statuses[client.send(_request(draw))[0]] += 1
        if number == int(count * _WARM_SHARE):
            time.sleep(1)
            memory, files = server.memory_mb, server.process.num_fds()
    client.close()
    time.sleep(2)
    return {
        "hostile": count,
        "hostile_statuses": {str(status): seen for status, seen in sorted(statuses.items())},
        "server_errors": sum(seen for status, seen in statuses.items() if status >= 500),
        "hostile_growth_mb": server.memory_mb - memory,
        "hostile_files_growth": server.process.num_fds() - files,
    }
