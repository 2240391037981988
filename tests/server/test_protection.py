"""A request that does not arrive ends, and one that has arrived is answered for as long as the answer takes."""

import asyncio
from typing import Any

from sonoshare_server.catalogue.protection import Protection

SCOPE = {"type": "http", "method": "POST", "path": "/api/v1/agreements", "headers": []}


def asked(application: Any, parts: list[dict[str, Any]], seconds: float) -> list[Any]:
    """What is sent to a peer that sends these parts and then nothing."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.sleep(0.2)
            return {"type": "http.disconnect"}
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(Protection(application, seconds)(SCOPE, receive, send), 5))
    return sent


async def reads(_scope: Any, receive: Any, send: Any) -> None:
    """Reads the body as frameworks do: whatever goes wrong is answered with 400."""
    try:
        while (await receive()).get("more_body", False):
            pass
    except Exception:  # noqa: BLE001 - as a framework would
        await send({"type": "http.response.start", "status": 400, "headers": []})
        return
    await receive()  # until the peer has gone, as while a long file is sent
    await send({"type": "http.response.start", "status": 200, "headers": []})


def part(*, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": b"{", "more_body": more}


def test_a_body_that_does_not_arrive_is_answered_in_time_and_its_connection_closed() -> None:
    start, body = asked(reads, [part(more=True)], 0.05)
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert b"in time" in body["body"]


def test_word_that_the_peer_has_gone_is_waited_for_without_end() -> None:
    (start,) = asked(reads, [part(more=True), part(more=False)], 0.05)
    assert start["status"] == 200
