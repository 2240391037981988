"""The published listener serves fleet routes and the health check, and nothing else."""

import asyncio
from typing import Any

import pytest

from sonoshare_server.federation.superlink import FleetOnly


def ask(path: str, kind: str = "http") -> tuple[bool, list[Any]]:
    sent, reached = [], []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[Any, Any]:
        return {}

    asyncio.run(FleetOnly(application)({"type": kind, "path": path}, receive, send))
    return bool(reached), [message.get("status") for message in sent if "status" in message]


@pytest.mark.parametrize("path", ["/v1/fleet/pull-messages", "/health"])
def test_fleet_routes_pass(path: str) -> None:
    assert ask(path) == (True, [200])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet",
        "/v1/fleet/../control/start-run",
        "/v1/fleet//control",
        "/docs",
        "/openapi.json",
        "/health/x",
    ],
)
def test_everything_else_is_not_found(path: str) -> None:
    assert ask(path) == (False, [404])


def test_websockets_do_not_pass() -> None:
    assert ask("/v1/fleet/x", kind="websocket") == (False, [])
