"""The way out of a hospital's network: straight, or through the site's proxy.

A proxy is taken from ``HTTPS_PROXY`` and ``NO_PROXY`` as Flower's HTTP client takes it. It passes the TLS connection
through unopened (CONNECT); one that opens it is not trusted, because its certificate is not of the pinned authority.
"""

import base64
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Final

from sonoshare_shared.errors import InputError

CONNECT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Proxy:
    """A proxy that passes connections through (CONNECT)."""

    host: str
    port: int
    credentials: str | None

    @property
    def place(self) -> str:
        """``host:port``, without credentials."""
        return f"{self.host}:{self.port}"


def proxy_for(host: str) -> Proxy | None:
    """The proxy that the environment names for https connections to a host, as Flower's HTTP client reads it."""
    url = urllib.request.getproxies().get("https") or urllib.request.getproxies().get("all")
    if not url or urllib.request.proxy_bypass(host):
        return None
    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    if not parts.hostname:
        raise InputError("HTTPS_PROXY names no host", remedy="write it like http://proxy.example.org:3128")
    credentials = None
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        credentials = base64.b64encode(pair.encode()).decode()
    return Proxy(parts.hostname, parts.port or 80, credentials)


def connected(host: str, port: int, proxy: Proxy | None) -> HTTPConnection:
    """A TCP connection to a host, through a proxy if there is one.

    Raises:
        OSError: there is no way.
    """
    place = (host, port) if proxy is None else (proxy.host, proxy.port)
    connection = HTTPConnection(*place, timeout=CONNECT_SECONDS)
    if proxy is not None:
        headers = {} if proxy.credentials is None else {"Proxy-Authorization": f"Basic {proxy.credentials}"}
        connection.set_tunnel(host, port, headers)
    connection.connect()
    return connection
