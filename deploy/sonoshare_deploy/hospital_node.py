"""A running hospital node: the agent in this process, the courier (Flower's SuperNode) as a supervised child.

The agent has no network; the courier has no vault key. They share a Unix socket and nothing else. Whoever takes over
the courier must not be able to read the vault's key: started as root, ``--courier-user`` runs it as another user
(courier_place.py); else start each part under its own user with ``--only``, on a socket path that both may reach. As
one user (the default) the network's side could read whatever the agent can.

When the agent starts, it says in its own log how the vault stands: what it will never say to the federation.
"""

import logging
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal

import torch

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.rank_processes import require_loopback
from sonoshare_client.agent.server import AgentServer
from sonoshare_client.agent.service import Agent
from sonoshare_client.agent.slots import SystemTiming
from sonoshare_client.courier.supernode import Connection, command, environment
from sonoshare_client.node.home import NodeHome
from sonoshare_client.own_eyes.fit import vault_state
from sonoshare_client.vault.store import Vault
from sonoshare_deploy.courier_place import SOCKET_FILE, CourierPlace, CourierUser, own_place
from sonoshare_deploy.link_watch import watched_link
from sonoshare_deploy.processes import Supervisor, wait_until_interrupted
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.locks import locked
from sonoshare_shared.science.device import device_words

Part = Literal["agent", "courier", "both"]
RESTART_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 40.0
STAYED_SECONDS: Final = 60.0
"""A courier that ran so long was not turned away; Flower takes a node that was killed for online as long."""
_log = logging.getLogger(__name__)
# sun_path of a Unix socket has 108 bytes with its final zero.
LONGEST_SOCKET_PATH: Final = 107


def run_node(
    home: NodeHome,
    connection: Connection,
    *,
    only: Part = "both",
    socket: Path | None = None,
    courier: CourierUser | None = None,
    devices: Sequence[torch.device] = (),
) -> None:
    """Run a node until it is interrupted.

    Args:
        home: the hospital's folder.
        connection: where the courier connects.
        only: run only one of the two parts.
        socket: path of the agent's socket; in the node's state folder if absent.
        courier: whom the courier runs as; None for the user of this process.
        devices: where the agent computes, and further ones that it trains on; none for what the node's folder says.

    Raises:
        InputError: the hospital is not enrolled, its vault cannot be opened, or an agent of this node runs already.
        KeyboardInterrupt: when interrupted.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with ExitStack() as stack:
        if only != "courier":
            stack.enter_context(_only_agent(home))
        place = stack.enter_context(
            _shared_place(home, connection, socket) if courier is None else own_place(connection, courier)
        )
        supervisor = stack.enter_context(Supervisor(home.state.logs_path))
        if only != "courier":
            timing = SystemTiming()
            stack.callback(timing.stop)
            start_agent(home, place, timing, group_access=only == "agent", devices=devices)
        if only == "agent":
            wait_until_interrupted(supervisor)
        stack.enter_context(watched_link(home, place, connection.root_certificate))
        _keep_courier_running(place, supervisor)


def _keep_courier_running(place: CourierPlace, supervisor: Supervisor) -> None:
    """Start the courier, and start it again whenever it ends: it is turned away until the hospital is admitted.

    Why it ends is told by the watch over the link, once; here it is said once that it is tried again.
    """
    pause, said = RESTART_SECONDS, False
    while True:
        began = time.monotonic()
        start_courier(place, supervisor, command(place.connection))
        try:
            wait_until_interrupted(supervisor)
        except FederationError as error:
            if time.monotonic() - began > STAYED_SECONDS:
                pause, said = RESTART_SECONDS, False
            if not said:
                _log.warning("%s; it is started again until it stays", error)
            said = True
        supervisor.stop()
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def start_courier(place: CourierPlace, supervisor: Supervisor, program: list[str]) -> None:
    """Start the courier's program in its place, as its user."""
    variables = environment(place.socket, place.flower)
    if place.user is None:
        supervisor.start("courier", program, variables)
        return
    variables |= {"HOME": str(place.flower), "USER": place.user.name, "LOGNAME": place.user.name}
    supervisor.start("courier", program, variables, user=place.user, folder=place.flower)


def write_no_core_files() -> None:
    """A crash of this process, or of those that it starts, leaves no file with patients' pictures in it.

    Not kept from a system that pipes core dumps to a program of its own (``kernel.core_pattern`` with a bar).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def start_agent(
    home: NodeHome,
    place: CourierPlace,
    timing: SystemTiming,
    *,
    group_access: bool,
    devices: Sequence[torch.device] = (),
) -> None:
    """Start answering on the socket, in a thread of this process.

    Raises:
        InputError: the hospital is not enrolled, its vault cannot be opened, its device is not here, or there are
            several and no loopback interface.
    """
    write_no_core_files()
    if len(devices) > 1:
        require_loopback()
    node = Node.open(home, devices[0] if devices else None, devices[1:])
    log_vault(home)
    server = AgentServer(
        place.socket,
        Agent(node, timing),
        group_access=group_access or place.user is not None,
        group=None if place.user is None else place.user.gid,
    )
    _point_to(home.state.socket_path, place.socket)
    threading.Thread(target=server.serve_forever, daemon=True, name="agent").start()
    where = ", ".join(map(device_words, (node.device, *node.further_devices)))
    _log.info("agent of %s answers; device: %s", home.hospital, where)


@contextmanager
def _only_agent(home: NodeHome) -> Iterator[None]:
    """Be the node's one agent. A second would answer while the first trains, and show when the first has ended."""
    busy = InputError("an agent of this node runs already", remedy="stop it before another is started")
    with locked(home.state.agent_lock_path, busy):
        yield


def _point_to(usual: Path, socket: Path) -> None:
    """Let the node's own commands find the agent where they look for it, wherever its socket lies."""
    if socket != usual:
        usual.unlink(missing_ok=True)
        usual.symlink_to(socket)


def log_vault(home: NodeHome) -> None:
    """Say in the node's own log what the vault holds and what is to be done about it; the agent itself never tells.

    Raises:
        InputError: the vault cannot be opened.
    """
    policy = home.policy()
    with Vault(home) as vault:
        state = vault_state(vault)
    _log.info("vault: %d trained and %d held-out patients", state.trained, state.held_out)
    for advice in state.advice(policy, policy.budget.delta):
        _log.warning("vault: %s", advice)


@contextmanager
def _shared_place(home: NodeHome, connection: Connection, socket: Path | None) -> Iterator[CourierPlace]:
    """The courier's place within the node's folder, for one user who runs both parts or starts them apart."""
    with _socket_path(home, socket) as path:
        yield CourierPlace(None, path, connection, home.state.flower_path)


@contextmanager
def _socket_path(home: NodeHome, wanted: Path | None) -> Iterator[Path]:
    path = wanted or home.state.socket_path
    if len(str(path).encode()) <= LONGEST_SOCKET_PATH:
        yield path
        path.unlink(missing_ok=True)
        return
    folder = tempfile.mkdtemp(prefix="sonoshare-")
    try:
        yield Path(folder) / SOCKET_FILE
    finally:
        shutil.rmtree(folder, ignore_errors=True)
