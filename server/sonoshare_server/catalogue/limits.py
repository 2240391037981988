"""Rate limits: so many requests a minute for each token, or for each address where there is none.

Buckets refill steadily and hold a tenth of a minute's requests, but at least ten. They are this process's own: several
servers allow several times as much. At most ``_MOST_BUCKETS`` are kept, and the one that was used longest ago is
forgotten first, so that many addresses cost no memory. A token counts by its digest; whether it is a good one is not
asked, so an address that invents tokens has a bucket of its own besides, ten times as large as one token's.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from sonoshare_server.catalogue import problems
from sonoshare_shared.protocol.canonical import sha256_hex

_MOST_BUCKETS: Final = 10_000
_BURST_SHARE: Final = 0.1
_LEAST_BURST: Final = 10.0
_ADDRESS_TIMES: Final = 10.0
_IPV6_GROUPS: Final = 4
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
    """

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = per_minute / 60.0, clock
        self._burst = max(per_minute * _BURST_SHARE, _LEAST_BURST)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, key: str) -> float:
        """Take one request out; returns 0, or in how many seconds there is one."""
        now = self._clock()
        bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        self._buckets[key] = bucket
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        if bucket.left < 1.0:
            return (1.0 - bucket.left) / self._rate
        bucket.left -= 1.0
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
        wait = self._wait(scope) if scope["type"] == "http" else 0.0
        if not wait:
            await self._app(scope, receive, send)
            return
        data = problems.body(429, "too-many", "too many requests; try again in a moment", path=scope["path"])
        headers = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(data)).encode()),
            (b"retry-after", str(int(wait) + 1).encode()),
        ]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    def _wait(self, scope: Scope) -> float:
        peer = _peer(scope)
        said = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if said is None:
            return self._peers.wait(peer)
        return self._behind_tokens.wait(peer) or self._peers.wait(sha256_hex(said))


def _peer(scope: Scope) -> str:
    host = str((scope.get("client") or ("unknown",))[0])
    return ":".join(host.split(":")[:_IPV6_GROUPS]) if ":" in host else host
