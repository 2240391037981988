"""Layers of Flower's that are not asked about a request pass it on, unread; every other request meets all of them."""

import asyncio
import importlib
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from sonoshare_server.federation.layers import FLEET, PASSED_ON, RUNTIME, Unasked, ask_fewer_layers

PATHS = ("pull-messages", "push-object", "acquire-task", "start-run", "../control/start-run")
SKIPPED = [(name, prefix + path) for name, prefixes in PASSED_ON.items() for prefix in prefixes for path in PATHS]


class Inside:
    """What lies behind a layer."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(scope["path"])
        await receive()
        await send({"type": "http.response.start", "status": 207, "headers": [(b"own", b"value")]})
        await send({"type": "http.response.body", "body": b"said", "more_body": False})


def answered(app: Any, path: str) -> list[Any]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"asked", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    # Without an application in it: a layer that acted on it would fail.
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "server": ("h", 1)}
    asyncio.run(app(scope, receive, send))
    start = next(message for message in sent if message["type"] == "http.response.start")
    body = b"".join(message.get("body", b"") for message in sent)
    return [start["status"], [pair for pair in start["headers"] if pair[0] == b"own"], body]


def classes(app: Starlette) -> list[Any]:
    return [layer.cls for layer in app.user_middleware]


def layer_named(name: tuple[str, str]) -> Any:
    return getattr(importlib.import_module(name[0]), name[1])


@pytest.mark.parametrize(("name", "path"), SKIPPED)
def test_a_layer_passes_on_what_it_is_not_asked_about(name: tuple[str, str], path: str) -> None:
    inside = Inside()
    assert answered(layer_named(name)(inside), path) == [207, [(b"own", b"value")], b"said"]
    assert inside.reached == [path]


def test_flowers_own_layers_are_named_and_the_check_of_who_asks_stays() -> None:
    main = importlib.import_module("flwr.superlink.main")
    app = Starlette(middleware=main._get_middleware())
    before = classes(app)
    ask_fewer_layers(app)
    changed = [old for old, new in zip(before, classes(app), strict=True) if new is Unasked]
    assert {(cls.__module__, cls.__name__) for cls in changed} == set(PASSED_ON)
    kept = [cls.__name__ for cls in classes(app) if cls is not Unasked]
    assert kept == [
        "BaseHTTPMiddleware",
        "ProtobufTranslationMiddleware",
        "NodeAuthMiddleware",
        "FleetEventLogMiddleware",
    ]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/control/start-run", True),
        ("/v1/fleet", True),
        ("/", True),
        ("//v1/fleet/x", True),
        (FLEET + "pull-messages", False),
        (RUNTIME + "pull-messages", False),
    ],
)
def test_whatever_is_not_for_hospitals_or_runs_meets_every_layer(path: str, asked: bool) -> None:
    seen: list[str] = []

    class Layer:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["path"])
            await self.app(scope, receive, send)

    answered(Unasked(Inside(), Middleware(Layer), (FLEET, RUNTIME)), path)
    assert seen == ([path] if asked else [])
