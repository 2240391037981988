"""All that the coordinator takes from Flower, and the only module of this room that imports it.

Flower's Message API (`flwr.app`, `flwr.serverapp`) is public. Its control routes, the building of an app's archive and
the program of its SuperLink are not: they are listed in `PRIVATE_NAMES` and checked before anything rests on them
(`require_flower`). The SuperLink is stock but for one thing: it serves by ``uvicorn.run``, and whoever replaces that
name in uvicorn decides which listeners there are (`superlink.py`) and which layers a request meets (`layers.py`).
"""

import hashlib
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from sonoshare_shared.loopback import loopback_direct
from sonoshare_shared.private_names import PrivateName, require_private_names

if TYPE_CHECKING:
    from flwr.proto.control_pb2 import ListNodesResponse, ListRunsResponse, RegisterNodeResponse, StartRunResponse

__all__ = ["Array", "ArrayRecord", "ConfigRecord", "Context", "Grid", "Message", "RecordDict", "ServerApp"]

FLOWER_VERSION: Final = "1.41.*"
FINISHED: Final = "finished"
COMPLETED: Final = "completed"
ONLINE: Final = "online"
UNREGISTERED: Final = "unregistered"
FLEET_PREFIX: Final = "/v1/fleet"

_DATABASE: Final = "flwr.supercore.sql_mixin"
_SMALL: Final = {"cache_size": "-1000", "mmap_size": "0", "journal_size_limit": str(16 << 20)}
"""Instead of 64 MB of cache for each connection: what passes through the database is read once."""
_CLIENT: Final = "flwr.supercore.control"
_MESSAGES: Final = "flwr.proto.control_pb2"
PRIVATE_NAMES: Final = (
    PrivateName(
        _CLIENT,
        "ControlHttpClient.from_server_address",
        ("server_address", "insecure", "root_certificates", "interceptors"),
    ),
    *(
        PrivateName(_CLIENT, f"ControlHttpClient.{name}", ("request",))
        for name in ("RegisterNode", "UnregisterNode", "ListNodes", "StartRun", "StopRun", "ListRuns")
    ),
    PrivateName("flwr.supercore.interceptors", "RuntimeVersionHttpInterceptor", ("component_name",)),
    PrivateName(_MESSAGES, "RegisterNodeRequest", fields=("public_key", "name")),
    PrivateName(_MESSAGES, "RegisterNodeResponse", fields=("node_id",)),
    PrivateName(_MESSAGES, "UnregisterNodeRequest", fields=("node_id",)),
    PrivateName(_MESSAGES, "ListNodesRequest", fields=()),
    PrivateName(_MESSAGES, "ListNodesResponse", fields=("nodes_info",)),
    PrivateName(
        "flwr.proto.node_pb2",
        "NodeInfo",
        fields=("node_id", "status", "public_key", "last_activated_at", "last_deactivated_at"),
    ),
    PrivateName("flwr.supercore.constant", "NodeStatus.ONLINE", value=ONLINE),
    PrivateName("flwr.supercore.constant", "NodeStatus.UNREGISTERED", value=UNREGISTERED),
    PrivateName(_MESSAGES, "StartRunRequest", fields=("fab", "override_config")),
    PrivateName(_MESSAGES, "StartRunResponse", fields=("run_id",)),
    PrivateName(_MESSAGES, "StopRunRequest", fields=("run_id",)),
    PrivateName(_MESSAGES, "ListRunsRequest", fields=("run_id",)),
    PrivateName(_MESSAGES, "ListRunsResponse", fields=("run_dict",)),
    PrivateName("flwr.common.constant", "Status.FINISHED", value=FINISHED),
    PrivateName("flwr.common.constant", "SubStatus.COMPLETED", value=COMPLETED),
    PrivateName("flwr.cli.build", "build_fab_from_disk", ("app",)),
    PrivateName("flwr.supercore.fab", "Fab", ("hash_str", "content", "verifications")),
    PrivateName("flwr.common.serde", "fab_to_proto", ("fab",)),
    PrivateName("flwr.common.serde", "user_config_to_proto", ("user_config",)),
    PrivateName("flwr.supercore.primitives.asymmetric", "public_key_to_bytes", ("public_key",)),
    PrivateName("flwr.supercore.primitives.asymmetric", "uses_nist_ec_curve", ("public_key",)),
)
SUPERLINK_NAMES: Final = (
    # It serves everything by ``uvicorn.run``, looked up in uvicorn when it is called.
    PrivateName("flwr.superlink.cli", "flower_superlink", (), looks_up=("_run_superlink_http_api",)),
    PrivateName("flwr.superlink.cli.flower_superlink", "_run_superlink_http_api", looks_up=("uvicorn", "run")),
    PrivateName("flwr.superlink.routers.fleet.router", "router.prefix", value=FLEET_PREFIX),
    # Of each of its connections to its database.
    PrivateName(_DATABASE, "_set_sqlite_pragmas", looks_up=("SQLITE_PRAGMAS",)),
    PrivateName(_DATABASE, "SQLITE_PRAGMAS"),
)
"""Only for the process of the SuperLink, which has them loaded in any case."""


def require_flower(names: tuple[PrivateName, ...] = PRIVATE_NAMES) -> None:
    """Check that Flower is as this module expects it.

    Raises:
        InputError: it is not; nothing may be started.
    """
    require_private_names("flwr", FLOWER_VERSION, names)


class ControlRoutes:
    """Flower's control routes, as messages in and out.

    Args:
        address: ``host:port`` of the private listener.
        root_certificate: PEM file of the authority that signed its certificate.

    Raises:
        InputError: Flower is not as expected.
    """

    def __init__(self, address: str, root_certificate: Path) -> None:
        require_flower()
        os.environ.update(loopback_direct(os.environ))  # the client reads it when it is made
        from flwr.supercore.control import ControlHttpClient  # noqa: PLC0415 - not for the ServerApp, here and below
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor  # noqa: PLC0415

        self._client = ControlHttpClient.from_server_address(
            address,
            insecure=False,
            root_certificates=root_certificate.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

    def register(self, public_key: bytes, name: str) -> "RegisterNodeResponse":
        """Admit a node by its public key."""
        from flwr.proto.control_pb2 import RegisterNodeRequest  # noqa: PLC0415

        return self._client.RegisterNode(RegisterNodeRequest(public_key=public_key, name=name))

    def unregister(self, node_id: int) -> None:
        """Take a node off for good."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest  # noqa: PLC0415

        self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def nodes(self) -> "ListNodesResponse":
        """Every node that was ever registered."""
        from flwr.proto.control_pb2 import ListNodesRequest  # noqa: PLC0415

        return self._client.ListNodes(ListNodesRequest())

    def start(self, app_folder: Path, config: dict[str, str]) -> "StartRunResponse":
        """Build the archive of an app and start a run of it."""
        from flwr.cli.build import build_fab_from_disk  # noqa: PLC0415
        from flwr.common.serde import fab_to_proto, user_config_to_proto  # noqa: PLC0415
        from flwr.proto.control_pb2 import StartRunRequest  # noqa: PLC0415
        from flwr.supercore.fab import Fab  # noqa: PLC0415

        archive = build_fab_from_disk(app_folder)
        fab = fab_to_proto(Fab(hashlib.sha256(archive).hexdigest(), archive, {}))
        return self._client.StartRun(StartRunRequest(fab=fab, override_config=user_config_to_proto(dict(config))))

    def stop(self, run_id: int) -> None:
        """Stop a run."""
        from flwr.proto.control_pb2 import StopRunRequest  # noqa: PLC0415

        self._client.StopRun(StopRunRequest(run_id=run_id))

    def list(self, run_id: int) -> "ListRunsResponse":
        """What is known of a run."""
        from flwr.proto.control_pb2 import ListRunsRequest  # noqa: PLC0415

        return self._client.ListRuns(ListRunsRequest(run_id=run_id))


def key_bytes(key: ec.EllipticCurvePublicKey) -> bytes | None:
    """A node's public key as the SuperLink stores it; None where it is on no curve that Flower accepts."""
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes, uses_nist_ec_curve  # noqa: PLC0415

    return bytes(public_key_to_bytes(key)) if uses_nist_ec_curve(key) else None


def run_superlink() -> None:
    """Run Flower's SuperLink with the arguments in ``sys.argv``.

    Raises:
        InputError: Flower is not as expected.
    """
    require_flower(SUPERLINK_NAMES)
    database = vars(importlib.import_module(_DATABASE))
    database["SQLITE_PRAGMAS"] = tuple({**dict(database["SQLITE_PRAGMAS"]), **_SMALL}.items())
    from flwr.superlink.cli import flower_superlink  # noqa: PLC0415 - heavy, and only here

    flower_superlink()
