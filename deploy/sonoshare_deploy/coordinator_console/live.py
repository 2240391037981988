"""Progress as it happens: one server-sent event whenever what a page shows has changed, looked at once a second.

    data: {"text": {"s1-state": "training", ...}, "value": {"s1-rounds": 2}, "rows": {"events": [[...], ...]}}

``static/live.js`` puts the words into the page's elements of these names (``data-live``). Every event holds all of it,
so that one that was missed matters not. Without scripts the page is as it was made, and has a link to look again.

Promise: at most `MOST_LISTENERS` at a time; a stream ends when its browser leaves, its session ends, or its study is
gone. All listeners of one page share one look a second at the files.
"""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from sonoshare_shared.errors import SonoShareError
from sonoshare_shared.local_pages.door import Door
from sonoshare_shared.local_pages.guard import session_of

MOST_LISTENERS: Final = 8
LOOK_SECONDS: Final = 1.0
BEAT_SECONDS: Final = 15.0
"""A line that says nothing goes so often: who has left is noticed at the next one."""


@dataclass(frozen=True)
class Progress:
    """What changes on a page, by the names of its places.

    Attributes:
        text: words of elements.
        value: of progress bars.
        rows: cells of tables, row by row.
    """

    text: Mapping[str, str]
    value: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)

    def event(self) -> str:
        """As one server-sent event; JSON has no line ends of its own."""
        said = {"text": dict(self.text), "value": dict(self.value), "rows": {k: list(v) for k, v in self.rows.items()}}
        return f"data: {json.dumps(said)}\n\n"


class Live:
    """The streams of one console.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.listeners = 0
        self._clock = clock
        self._looks: dict[str, tuple[float, str]] = {}

    def stream(self, request: Request, door: Door, name: str, look: Callable[[], Progress]) -> Response:
        """Answer a request with a stream; 503 where too many listen.

        Args:
            request: of the browser.
            door: whose session the stream belongs to.
            name: of the page; pages of one name show the same.
            look: what it shows now; an error of the tree ends the stream.
        """
        if self.listeners >= MOST_LISTENERS:
            return Response("too many pages are open\n", 503, media_type="text/plain", headers={"Retry-After": "10"})
        self.listeners += 1
        cookie = session_of(request)
        return _Stream(self._events(lambda: door.admits(cookie), name, look), self._left)

    def _left(self) -> None:
        self.listeners -= 1

    async def _events(
        self, admitted: Callable[[], bool], name: str, look: Callable[[], Progress]
    ) -> AsyncIterator[str]:
        said, beat = "", self._clock()
        while admitted():
            try:
                now = await to_thread.run_sync(self._look, name, look)
            except SonoShareError:
                return
            if now != said or self._clock() - beat >= BEAT_SECONDS:
                yield now if now != said else ": still here\n\n"
                said, beat = now, self._clock()
            await anyio.sleep(LOOK_SECONDS)

    def _look(self, name: str, look: Callable[[], Progress]) -> str:
        before = self._looks.get(name)
        if before is None or self._clock() - before[0] >= LOOK_SECONDS:
            before = self._looks[name] = (self._clock(), look().event())
        return before[1]


class _Stream(StreamingResponse):
    """A stream that says when it is over, however it ends."""

    def __init__(self, events: AsyncIterator[str], ended: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()
