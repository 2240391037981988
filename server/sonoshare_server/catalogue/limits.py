"""Rate limits: so many requests a minute for each token, or for each address where there is none.

Buckets refill steadily and hold a tenth of a minute's requests, but at least ten. They are this process's own: several
servers allow several times as much (``catalogue serve --workers`` gives each worker its share). At most
``_MOST_BUCKETS`` are kept, and the one that was used longest ago is forgotten first, so that many addresses cost no
memory. A token counts by its digest; whether it is a good one is not asked, so an address that invents tokens has a
bucket of its own besides, ten times as large as one token's.

Data that are given out under a token do not count: a release has as many files as it has. What is refused there does,
in the bucket of the address, so that tokens are not guessed for nothing.
"""

import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sonoshare_server.catalogue import problems
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.release import layout

_MOST_BUCKETS: Final = 10_000
_BURST_SHARE: Final = 0.1
_LEAST_BURST: Final = 10.0
_ADDRESS_TIMES: Final = 10.0
_REFUSED: Final = 400
_FILE: Final = re.compile(r"/api/v1/releases/[^/]+/files/(.+)\Z")
_IPV6_HOST_BITS: Final = 64
"""An IPv6 network of 64 bits is one peer: it may have any number of addresses."""


@dataclass
class _Bucket:
    left: float
    at: float


class Buckets:
    """How much each of many may still ask.

    Args:
        per_minute: requests.
        clock: seconds.
        burst: how many at once; a tenth of a minute's, and ten at least, if absent.
    """

    def __init__(
        self, per_minute: float, clock: Callable[[], float] = time.monotonic, burst: float | None = None
    ) -> None:
        self._rate, self._clock = per_minute / 60.0, clock
        self._burst = max(per_minute * _BURST_SHARE, _LEAST_BURST) if burst is None else burst
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, key: str, *, take: bool = True) -> float:
        """Take one request out, or only look; returns 0, or in how many seconds there is one."""
        now = self._clock()
        bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        self._buckets[key] = bucket
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        if bucket.left < 1.0:
            return (1.0 - bucket.left) / self._rate
        bucket.left -= float(take)
        return 0.0


class Limits:
    """ASGI middleware: 429 with ``Retry-After`` for whoever asks too often.

    Args:
        app: what is protected.
        per_minute: requests of one token, or of one address without any.
        clock: seconds.
    """

    def __init__(self, app: ASGIApp, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._peers = Buckets(per_minute, clock)
        self._behind_tokens = Buckets(per_minute * _ADDRESS_TIMES, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        download = _asks_for_data(scope)
        wait = self._behind_tokens.wait(peer_of(scope), take=False) if download else self._wait(scope)
        if not wait:
            await self._app(scope, receive, self._counting_refusals(scope, send) if download else send)
            return
        data = problems.body(429, "too-many", "too many requests; try again in a moment", path=scope["path"])
        headers = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(data)).encode()),
            (b"retry-after", str(int(wait) + 1).encode()),
        ]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    def _counting_refusals(self, scope: Scope, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= _REFUSED:
                self._behind_tokens.wait(peer_of(scope))
            await send(message)

        return counted

    def _wait(self, scope: Scope) -> float:
        peer = peer_of(scope)
        said = _authorization(scope)
        if said is None:
            return self._peers.wait(peer)
        return self._behind_tokens.wait(peer) or self._peers.wait(sha256_hex(said))


def _authorization(scope: Scope) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == b"authorization"), None)


def _asks_for_data(scope: Scope) -> bool:
    """Whether a token is shown for what is given out for tokens alone: there, and only there, somebody looks at it."""
    match = _FILE.match(scope["path"])
    return (
        match is not None
        and scope["method"] in {"GET", "HEAD"}
        and not layout.is_public(match.group(1))
        and _authorization(scope) is not None
    )


def peer_of(scope: Scope) -> str:
    """Who asks, as limits count: an address, or a network of 64 bits however its addresses are written."""
    host = str((scope.get("client") or ("unknown",))[0])
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS))
