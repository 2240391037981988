"""Who really asks, where a reverse proxy stands in front of the catalogue.

    SONOSHARE_TRUSTED_PROXIES=127.0.0.1,10.0.8.0/24

Only what one of these addresses says in ``X-Forwarded-For`` and ``X-Forwarded-Proto`` is believed; from anybody else
the two headers mean nothing. ``X-Forwarded-For`` is read from its end, where the nearest proxy writes: the last address
that is no trusted proxy is the client's. What a client wrote in front of that is not looked at, so nobody becomes
somebody else by a header. An entry that is no address ends the reading: the client is then the proxy that sent it.

``Host`` is the proxy's to pass on; no other forwarding header is read.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from sonoshare_shared.errors import InputError

_MOST_HOPS: Final = 20
_SCHEMES: Final = frozenset({"http", "https"})
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies:
    """ASGI middleware, the outermost: puts the client's address and scheme in the place of a trusted proxy's.

    Args:
        app: what is served.
        trusted: addresses and networks (``10.0.8.0/24``) of proxies.

    Raises:
        InputError: one of them is neither.
    """

    def __init__(self, app: ASGIApp, trusted: Iterable[str]) -> None:
        self._app, self._networks = app, networks_of(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and self._trusts(_read(str((scope.get("client") or ("",))[0]))):
            client, scheme = self._client(scope), _last(scope, b"x-forwarded-proto").lower()
            scope = dict(scope)
            if client:
                scope["client"] = client, 0
            if scheme in _SCHEMES:
                scope["scheme"] = scheme
        await self._app(scope, receive, send)

    def _client(self, scope: Scope) -> str | None:
        """The client's address, or None where nothing is said of it."""
        said: str | None = None
        for word in _words(scope, b"x-forwarded-for")[: -_MOST_HOPS - 1 : -1]:
            address = _read(word)
            if address is None:
                break
            said = str(address)
            if not self._trusts(address):
                break
        return said

    def _trusts(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def networks_of(trusted: Iterable[str]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Addresses and networks as they are compared.

    Raises:
        InputError: one is neither.
    """
    try:
        return tuple(ipaddress.ip_network(word.strip()) for word in trusted)
    except ValueError as error:
        raise InputError(
            f"a trusted proxy is no address and no network: {error}",
            remedy="write SONOSHARE_TRUSTED_PROXIES=127.0.0.1,10.0.8.0/24",
        ) from error


def _words(scope: Scope, name: bytes) -> list[str]:
    said = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return [word.strip() for word in ",".join(said).split(",")] if said else []


def _last(scope: Scope, name: bytes) -> str:
    return (_words(scope, name) or [""])[-1]


def _read(word: str) -> _Address | None:
    """An address as proxies write them: also ``[::1]:443``, ``10.0.0.7:443`` and IPv4 in IPv6."""
    if word.startswith("["):
        word = word[1:].partition("]")[0]
    elif word.count(":") == 1:
        word = word.partition(":")[0]
    try:
        address = ipaddress.ip_address(word.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
