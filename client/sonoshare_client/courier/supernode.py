"""The command and environment of a hospital's courier: Flower's SuperNode, and the worker beside it.

Run as ``python -m sonoshare_client.courier.supernode <flower-supernode arguments>``: checks that Flower is as expected,
starts Flower's program with these arguments, and answers its messages (``worker``).
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sonoshare_client.node.socket import ask_agent
from sonoshare_shared.errors import InputError
from sonoshare_shared.loopback import loopback_direct

SOCKET_VARIABLE: Final = "SONOSHARE_AGENT_SOCKET"
"""Tells the courier where the agent listens."""
AGENT_TIMEOUT_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True)
class Connection:
    """Where a hospital's courier connects.

    Attributes:
        superlink: ``host:port`` of the coordinator's fleet listener.
        root_certificate: PEM file of the authority that signed its TLS certificate.
        node_key: the courier's private key (OpenSSH file).
        runtime_port: loopback port on which the SuperNode gives messages to the worker.
    """

    superlink: str
    root_certificate: Path
    node_key: Path
    runtime_port: int


def command(connection: Connection) -> list[str]:
    """The courier's command line."""
    return [
        *(sys.executable, "-m", "sonoshare_client.courier.supernode"),
        *("--superlink", connection.superlink),
        *("--root-certificates", str(connection.root_certificate)),
        *("--auth-supernode-private-key", str(connection.node_key)),
        *("--host", "127.0.0.1", "--port", str(connection.runtime_port)),
    ]


def environment(socket_path: Path, flower_home: Path) -> dict[str, str]:
    """The courier's environment."""
    flower_home.mkdir(parents=True, exist_ok=True)
    return {
        # The site's proxy is for the way to the coordinator alone: the SuperNode serves its own processes on loopback.
        **loopback_direct(os.environ),
        SOCKET_VARIABLE: str(socket_path),
        "FLWR_HOME": str(flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",  # beside the worker's own pauses
        "PYTHONUNBUFFERED": "1",
    }


def ask(frame: bytes) -> bytes:
    """Pass a frame to the agent and return its answer."""
    return ask_agent(Path(os.environ[SOCKET_VARIABLE]), frame, AGENT_TIMEOUT_SECONDS)


def main() -> None:
    """Be the courier, or end with one line when Flower is not as expected."""
    from sonoshare_client.courier import flower, worker  # noqa: PLC0415 - heavy, and not for who builds a command

    try:
        flower.require_flower()
    except InputError as error:
        sys.exit(f"error: {error}")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True)
    runtime = parser.parse_known_args(sys.argv[1:])[0]
    worker.run(sys.argv[1:], f"{runtime.host}:{runtime.port}", ask)


if __name__ == "__main__":
    main()
