"""A running hospital node: the agent in this process, the courier (Flower's SuperNode) as a supervised child.

The agent has no network; the courier has no vault key. They share a Unix socket and nothing else. To run them as
different operating-system users, start each with its own ``--only`` on a socket path that both may reach.
"""

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.server import AgentServer
from sonoshare_client.agent.service import Agent
from sonoshare_client.courier.supernode import Connection, command, environment
from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.processes import Supervisor, wait_until_interrupted
from sonoshare_shared.errors import FederationError

Part = Literal["agent", "courier", "both"]
SOCKET_FILE: Final = "agent.sock"
RESTART_SECONDS: Final = 5
_log = logging.getLogger(__name__)
# sun_path of a Unix socket has 108 bytes with its final zero.
LONGEST_SOCKET_PATH: Final = 107


def run_node(home: NodeHome, connection: Connection, *, only: Part = "both", socket: Path | None = None) -> None:
    """Run a node until it is interrupted.

    Args:
        home: the hospital's folder.
        connection: where the courier connects.
        only: run only one of the two parts.
        socket: path of the agent's socket; in the node's state folder if absent.

    Raises:
        InputError: the hospital is not enrolled.
        KeyboardInterrupt: when interrupted.
    """
    with _socket_path(home, socket) as path, Supervisor(home.state_path / "logs") as supervisor:
        if only != "courier":
            _start_agent(home, path, group_access=only == "agent")
        if only == "agent":
            wait_until_interrupted(supervisor)
        _keep_courier_running(home, connection, path, supervisor)


def _keep_courier_running(home: NodeHome, connection: Connection, socket: Path, supervisor: Supervisor) -> None:
    """Start the courier, and start it again whenever it ends: it is turned away until the hospital is admitted."""
    variables = environment(socket, home.state_path / "flower", home.state_path / "bin")
    while True:
        supervisor.start("courier", command(connection), variables)
        try:
            wait_until_interrupted(supervisor)
        except FederationError as error:
            _log.warning("%s; trying again in %d s", error, RESTART_SECONDS)
        supervisor.stop()
        time.sleep(RESTART_SECONDS)


def _start_agent(home: NodeHome, socket: Path, *, group_access: bool) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    node = Node.open(home)
    server = AgentServer(socket, Agent(node), group_access=group_access)
    threading.Thread(target=server.serve_forever, daemon=True, name="agent").start()
    _log.info("agent of %s answers", home.hospital)


@contextmanager
def _socket_path(home: NodeHome, wanted: Path | None) -> Iterator[Path]:
    path = wanted or home.state_path / SOCKET_FILE
    if len(str(path).encode()) <= LONGEST_SOCKET_PATH:
        yield path
        path.unlink(missing_ok=True)
        return
    folder = tempfile.mkdtemp(prefix="sonoshare-")
    try:
        yield Path(folder) / SOCKET_FILE
    finally:
        shutil.rmtree(folder, ignore_errors=True)
