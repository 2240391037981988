"""Every name inside Flower that we rest on without a promise, and what happens when one of them goes."""

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sonoshare_client.courier import flower as courier
from sonoshare_server.federation import flower as coordinator
from sonoshare_shared.errors import InputError
from sonoshare_shared.private_names import PrivateName, require_private_names

ROOT = Path(__file__).parents[2]
SEAMS = {
    "client/sonoshare_client/courier/flower.py",
    "server/sonoshare_server/federation/flower.py",
    # The archive that Flower wants of a run; the app in it answers with a refusal and imports nothing of ours there.
    "deploy/sonoshare_deploy/flower_app/sonoshare_app/client_app.py",
    # What is measured against, and couriers that are simulated.
    "benchmarks/_round_light.py",
    "benchmarks/round_stock/stock/client_app.py",
    "benchmarks/round_stock/stock/server_app.py",
}

LISTED = (
    "flwr.supernode.runtime.run_clientapp.install_from_fab",
    "flwr.supernode.runtime.run_clientapp.install_app_dependencies",
    "flwr.supernode.runtime.run_clientapp.get_load_client_app_fn",
    "flwr.supernode.runtime.run_clientapp.run_clientapp",
    "flwr.supercore.superexec.run_superexec.run_superexec",
    "flwr.supercore.superexec.run_superexec.get_executor",
    "flwr.supercore.superexec.run_superexec._TASK_POLL_INTERVAL_ENV",
    "flwr.supercore.superexec.executor.Executor.get_eligible_capacity",
    "flwr.supercore.superexec.executor.Executor.launch",
    "flwr.supercore.superexec.executor.Executor.reconcile",
    "flwr.supercore.superexec.executor.Executor.close",
    "flwr.supercore.superexec.executor.LaunchResult.accepted",
    "flwr.supercore.superexec.executor.LaunchResult.failed",
    "flwr.supercore.exit.exit_handler.registered_exit_handlers",
    "flwr.supercore.constant.TaskType.CLIENT_APP",
    "flwr.supernode.start_client_internal.start_client_internal",
    "flwr.supernode.start_client_internal._pull_and_store_message",
    "flwr.supernode.start_client_internal._push_messages",
    "flwr.supercore.run.RunNotRunningException",
    "flwr.supernode.cli.flower_supernode.flower_supernode",
    "flwr.common.constant.ISOLATION_MODE_PROCESS",
    "flwr.supercore.auth.load_superexec_auth_secret",
    "flwr.common.constant.FLWR_HOME",
    "flwr.supercore.constant.FLWR_DISABLE_UPDATE_CHECK",
    "flwr.supercore.telemetry.FLWR_TELEMETRY_ENABLED",
    "flwr.supercore.control.ControlHttpClient.from_server_address",
    "flwr.supercore.control.ControlHttpClient.RegisterNode",
    "flwr.supercore.control.ControlHttpClient.UnregisterNode",
    "flwr.supercore.control.ControlHttpClient.ListNodes",
    "flwr.supercore.control.ControlHttpClient.StartRun",
    "flwr.supercore.control.ControlHttpClient.StopRun",
    "flwr.supercore.control.ControlHttpClient.ListRuns",
    "flwr.supercore.interceptors.RuntimeVersionHttpInterceptor",
    "flwr.proto.control_pb2.RegisterNodeRequest",
    "flwr.proto.control_pb2.RegisterNodeResponse",
    "flwr.proto.control_pb2.UnregisterNodeRequest",
    "flwr.proto.control_pb2.ListNodesRequest",
    "flwr.proto.control_pb2.ListNodesResponse",
    "flwr.proto.node_pb2.NodeInfo",
    "flwr.supercore.constant.NodeStatus.ONLINE",
    "flwr.supercore.constant.NodeStatus.UNREGISTERED",
    "flwr.proto.control_pb2.StartRunRequest",
    "flwr.proto.control_pb2.StartRunResponse",
    "flwr.proto.control_pb2.StopRunRequest",
    "flwr.proto.control_pb2.ListRunsRequest",
    "flwr.proto.control_pb2.ListRunsResponse",
    "flwr.common.constant.Status.FINISHED",
    "flwr.common.constant.SubStatus.COMPLETED",
    "flwr.cli.build.build_fab_from_disk",
    "flwr.supercore.fab.Fab",
    "flwr.common.serde.fab_to_proto",
    "flwr.common.serde.user_config_to_proto",
    "flwr.supercore.primitives.asymmetric.public_key_to_bytes",
    "flwr.supercore.primitives.asymmetric.uses_nist_ec_curve",
    "flwr.superlink.cli.flower_superlink",
    "flwr.superlink.cli.flower_superlink._run_superlink_http_api",
    "flwr.superlink.routers.fleet.router.router.prefix",
    "flwr.supercore.sql_mixin._set_sqlite_pragmas",
    "flwr.supercore.sql_mixin.SQLITE_PRAGMAS",
)
ALL = (*courier.PRIVATE_NAMES, *coordinator.PRIVATE_NAMES, *coordinator.SUPERLINK_NAMES)


def test_the_list_is_complete_and_flower_has_every_name() -> None:
    assert tuple(f"{name.module}.{name.name}" for name in ALL) == LISTED
    courier.require_flower()
    coordinator.require_flower()
    coordinator.require_flower(coordinator.SUPERLINK_NAMES)


@pytest.mark.parametrize("name", ALL, ids=lambda name: f"{name.module}.{name.name}")
def test_a_name_that_is_gone_is_one_line_with_the_version_that_is_expected(name: PrivateName) -> None:
    """The name is looked for where it is not, as if Flower had moved it."""
    with pytest.raises(InputError) as refused:
        require_private_names("flwr", courier.FLOWER_VERSION, [replace(name, name=f"{name.name}_moved")])
    message = str(refused.value)
    assert "\n" not in message
    assert f"{name.module}.{name.name}_moved is not there" in message
    assert "flwr==1.41.*" in message


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"parameters": ("fab_file", "target")}, "does not take (fab_file, target)"),
        ({"parameters": ("skip_prompt",)}, "does not take (skip_prompt)"),
        ({"value": "other"}, "is not 'other'"),
        ({"looks_up": ("some_helper",)}, "does not use some_helper"),
    ],
)
def test_a_name_that_has_changed_is_noticed(changed: dict[str, Any], fault: str) -> None:
    name = replace(courier.REPLACED[0], **changed)
    assert name.fault() == fault


def test_a_message_without_its_field_is_noticed() -> None:
    message = PrivateName("flwr.proto.control_pb2", "StartRunRequest", fields=("fab", "no_such_field"))
    assert message.fault() == "has not all of the fields fab, no_such_field"


def test_case_37_a_courier_does_not_start_on_a_flower_of_another_shape() -> None:
    """The name under which the server's archive would be unpacked is gone: nothing starts, and one line says why."""
    check = (
        "import flwr.supernode.runtime.run_clientapp as runtime\n"
        "runtime.unpack = vars(runtime).pop('install_from_fab')\n"
        "from sonoshare_client.courier.supernode import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: flwr 1.41")
    assert "run_clientapp.install_from_fab is not there" in line


def test_flower_is_imported_in_the_seams_alone() -> None:
    found = set()
    for room in ("shared", "privacy", "client", "server", "deploy", "benchmarks"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names.append(node.module)
                if any(name.split(".")[0] == "flwr" for name in names):
                    found.add(path.relative_to(ROOT).as_posix())
    assert found == SEAMS


def test_a_module_that_cannot_be_imported_counts_as_gone() -> None:
    assert PrivateName("flwr.no_such_module", "x").fault() == "is not there"
