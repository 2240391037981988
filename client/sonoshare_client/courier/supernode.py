"""The command and environment of a hospital's SuperNode.

The SuperNode starts ``flwr-clientapp`` from its PATH for every message. A folder of the hospital's own stands first
on that PATH, with a program of that name which runs only installed code (see ``client_app``).

Run as ``python -m sonoshare_client.courier.supernode <flower-supernode arguments>``: checks that Flower is as expected,
then becomes Flower's program.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError

SOCKET_VARIABLE: Final = "SONOSHARE_AGENT_SOCKET"
"""Tells the ClientApp process where the agent listens."""
_LAUNCHER: Final = """#!{python}
from sonoshare_client.courier.client_app import main
main()
"""


@dataclass(frozen=True)
class Connection:
    """Where a hospital's courier connects.

    Attributes:
        superlink: ``host:port`` of the coordinator's fleet listener.
        root_certificate: PEM file of the authority that signed its TLS certificate.
        node_key: the courier's private key (OpenSSH file).
        runtime_port: loopback port on which the SuperNode serves its own ClientApp process.
    """

    superlink: str
    root_certificate: Path
    node_key: Path
    runtime_port: int


def command(connection: Connection) -> list[str]:
    """The SuperNode's command line."""
    return [
        *(sys.executable, "-m", "sonoshare_client.courier.supernode"),
        *("--superlink", connection.superlink),
        *("--root-certificates", str(connection.root_certificate)),
        *("--auth-supernode-private-key", str(connection.node_key)),
        *("--host", "127.0.0.1", "--port", str(connection.runtime_port)),
    ]


def environment(socket_path: Path, flower_home: Path, launcher_folder: Path) -> dict[str, str]:
    """The SuperNode's environment, with the hospital's own ``flwr-clientapp`` first on PATH."""
    launcher_folder.mkdir(parents=True, exist_ok=True)
    launcher = launcher_folder / "flwr-clientapp"
    write_atomically(launcher, _LAUNCHER.format(python=sys.executable).encode(), mode=0o755)
    flower_home.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(launcher_folder), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {
        **os.environ,
        "PATH": path,
        SOCKET_VARIABLE: str(socket_path),
        "FLWR_HOME": str(flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PYTHONUNBUFFERED": "1",
    }


def main() -> None:
    """Become Flower's SuperNode, or end with one line when Flower is not as expected."""
    from sonoshare_client.courier.flower import require_flower  # noqa: PLC0415 - heavy, and not for who builds a command

    try:
        require_flower()
    except InputError as error:
        sys.exit(f"error: {error}")
    program = str(Path(sys.executable).with_name("flower-supernode"))
    os.execv(program, [program, *sys.argv[1:]])  # noqa: S606 - a fixed program, no shell


if __name__ == "__main__":
    main()
