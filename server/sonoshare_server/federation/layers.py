"""Flower's layers around a request of a hospital or of a run: only those that do something for it.

Flower wraps its whole application in nine layers of Starlette's, and each costs every request half a millisecond. Five
of them ask first whether the request is for the control routes, or whether tracing or an event log is on, and pass it
on if not. Here they are not asked for requests that they would pass on in any case: those of the fleet routes, and
those of the runtime routes. Every other request, whatever its path, goes through all of Flower's layers as before, and
what checks who asks (``NodeAuthMiddleware``, and the routes' own checks) is never left out.

What is named here is of the Flower that `flower.require_flower` accepts; `tests/deploy/test_flower_layers.py` holds
that each layer passes on what is not shown to it. A layer of another name is left as it is.
"""

from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

FLEET: Final = "/v1/fleet/"
RUNTIME: Final = "/v1/runtime/"
CONTROL_LAYERS: Final = "flwr.superlink.routers.control.middlewares"
PASSED_ON: Final = {
    (CONTROL_LAYERS, "ControlSensitiveResponseMiddleware"): (FLEET, RUNTIME),
    (CONTROL_LAYERS, "ControlAuthenticationMiddleware"): (FLEET, RUNTIME),
    (CONTROL_LAYERS, "ControlLicenseMiddleware"): (FLEET, RUNTIME),
    (CONTROL_LAYERS, "ControlEventLogMiddleware"): (FLEET, RUNTIME),
    ("flwr.supercore.routers.runtime.tracing", "RuntimeTracingMiddleware"): (FLEET,),
}
"""Layers by module and name, and the paths whose requests they pass on."""


class Unasked:
    """A layer that is not asked about some paths.

    Args:
        app: what comes after the layer.
        layer: the layer.
        paths: how the paths begin that it passes on.
    """

    def __init__(self, app: ASGIApp, layer: Middleware, paths: tuple[str, ...]) -> None:
        self._after, self._paths = app, paths
        self._layer: Any = layer.cls(app, *layer.args, **layer.kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        passed = scope["type"] == "http" and scope["path"].startswith(self._paths) and not scope.get("root_path")
        await (self._after if passed else self._layer)(scope, receive, send)


def ask_fewer_layers(app: Starlette) -> None:
    """Ask the layers of Flower's application, before it serves, only about requests that they do not pass on."""
    app.user_middleware = [_asked(layer) for layer in app.user_middleware]


def _asked(layer: Middleware) -> Middleware:
    paths = PASSED_ON.get((layer.cls.__module__, getattr(layer.cls, "__name__", "")))
    return layer if paths is None else Middleware(Unasked, layer=layer, paths=paths)
