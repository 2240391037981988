"""A running hospital node: the agent in this process, the courier (Flower's SuperNode) as a supervised child.

The agent has no network; the courier has no vault key. They share a Unix socket and nothing else. Whoever takes over
the courier must not be able to read the vault's key: started as root, the courier runs as another user where there is
one (courier_place.py); else start each part under its own user with ``--only``, on a socket path that both may reach.
As one user the network's side could read whatever the agent can.

Both parts are kept running (``keeping``), one agent and one courier of a node at most (``role``). At the end the agent
answers nothing new, answers that wait for their slot are dropped (asked again they are given), and the courier ends.

When the agent starts, it says in its own log how the vault stands: what it will never say to the federation.
"""

import logging
import resource
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import torch

from sonoshare_client.agent.arenas import use_one_arena
from sonoshare_client.agent.node import Node
from sonoshare_client.agent.rank_processes import require_loopback
from sonoshare_client.agent.server import AgentServer
from sonoshare_client.agent.service import Agent
from sonoshare_client.agent.slots import SystemTiming
from sonoshare_client.courier.supernode import Connection, command, environment
from sonoshare_client.node.home import NodeHome
from sonoshare_client.own_eyes.fit import vault_state
from sonoshare_client.vault.store import Vault
from sonoshare_deploy.addresses import LOOPBACK, free_ports, require_free
from sonoshare_deploy.courier_place import (
    SOCKET_FILE,
    TEMPORARY_PREFIX,
    USUAL_USER,
    CourierPlace,
    CourierUser,
    own_place,
)
from sonoshare_deploy.keeping import Part
from sonoshare_deploy.link_watch import watched_link
from sonoshare_deploy.monitor import MonitorPart
from sonoshare_deploy.processes import Supervised, Supervisor
from sonoshare_deploy.role import Seat, running
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.events import MOST_BYTES, EventLog
from sonoshare_shared.science.device import device_words

Only = Literal["agent", "courier", "both"]
ANY_PORT: Final = 0
"""As a courier's own port: one that is free when it is started."""
_log = logging.getLogger(__name__)
# sun_path of a Unix socket has 108 bytes with its final zero.
LONGEST_SOCKET_PATH: Final = 107


def run_node(
    home: NodeHome,
    connection: Connection,
    *,
    only: Only = "both",
    socket: Path | None = None,
    courier: CourierUser | None = None,
    devices: Sequence[torch.device] = (),
    monitor: str | None = None,
) -> None:
    """Run a node until it is interrupted.

    Args:
        home: the hospital's folder.
        connection: where the courier connects.
        only: run only one of the two parts.
        socket: path of the agent's socket; in the node's state folder if absent.
        courier: whom the courier runs as; None for the user of this process.
        devices: where the agent computes, and further ones that it trains on; none for what the node's folder says.
        monitor: ``host:port`` on loopback where its health and figures can be read; None for nowhere.

    Raises:
        InputError: the hospital is not enrolled, its vault cannot be opened, or an agent of this node runs already.
        KeyboardInterrupt: when interrupted.
    """
    state = home.state
    seats = [
        *([Seat("agent", state.agent_lock_path, state.agent_run_path)] if only != "courier" else []),
        *([Seat("courier", state.courier_lock_path, state.courier_run_path)] if only != "agent" else []),
    ]
    with ExitStack() as stack:
        role = stack.enter_context(running(seats, EventLog(state.events_path, most_bytes=MOST_BYTES), monitor))
        if only != "agent" and connection.runtime_port != ANY_PORT:
            require_free(LOOPBACK, connection.runtime_port)
        place = stack.enter_context(
            _shared_place(home, connection, socket, only) if courier is None else own_place(connection, courier)
        )
        if courier is not None:
            role.owns(place.socket.parent)
        if only == "both":
            _say_who(courier)
        supervisor, parts = stack.enter_context(Supervisor(state.logs_path)), list[Part]()
        if only != "courier":
            timing = SystemTiming()
            stack.callback(timing.stop)
            agent = start_agent(home, place, timing, group_access=only == "agent", devices=devices)
            stack.callback(agent.end)
            parts.append(agent)
        if only != "agent":
            courier_part = CourierPart(place, supervisor)
            stack.enter_context(watched_link(home, place, connection.root_certificate, courier_part.end))
            courier_part.start()
            parts.append(courier_part)
        if monitor is not None:
            watching = MonitorPart("hospital", home.path, monitor, supervisor)
            watching.start()
            parts.append(watching)
        role.keep(parts)


def _say_who(courier: CourierUser | None) -> None:
    if courier is not None:
        _log.info("the courier runs as %s, who cannot read the node's folder", courier.name)
    else:
        _log.warning(
            "agent and courier run as one user: who breaks into the courier can read the vault's key. As root make a "
            "user: useradd --system --no-create-home %s",
            USUAL_USER,
        )


class CourierPart:
    """The courier's process, in its place: it is turned away until the hospital is admitted."""

    name = "courier"

    def __init__(self, place: CourierPlace, supervisor: Supervisor) -> None:
        self._place, self._supervisor = place, supervisor
        self._process: Supervised | None = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start it; where nobody has named its own port, on one that is free now."""
        connection = self._place.connection
        port = connection.runtime_port if connection.runtime_port != ANY_PORT else free_ports(1)[0]
        program = command(replace(connection, runtime_port=port))
        self._process = start_courier(self._place, self._supervisor, program)

    def end(self) -> None:
        """End it and what it has started."""
        if self._process is not None:
            self._supervisor.end(self._process)

    def last_words(self) -> str:
        """How it ended, or what it said last."""
        return "" if self._process is None else self._process.cause()


def start_courier(place: CourierPlace, supervisor: Supervisor, program: list[str]) -> Supervised:
    """Start the courier's program in its place, as its user."""
    variables = environment(place.socket, place.flower)
    if place.user is None:
        return supervisor.start("courier", program, variables)
    variables |= {"HOME": str(place.flower), "USER": place.user.name, "LOGNAME": place.user.name}
    return supervisor.start("courier", program, variables, user=place.user, folder=place.flower)


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
) -> "AgentPart":
    """Start answering on the socket, in a thread of this process.

    Raises:
        InputError: the hospital is not enrolled, its vault cannot be opened, its device is not here, or there are
            several and no loopback interface.
    """
    write_no_core_files()
    use_one_arena()
    if len(devices) > 1:
        require_loopback()
    node = Node.open(home, devices[0] if devices else None, devices[1:])
    log_vault(home)
    part = AgentPart(home, place, Agent(node, timing), group_access=group_access or place.user is not None)
    part.start()
    where = ", ".join(map(device_words, (node.device, *node.further_devices)))
    _log.info("agent of %s answers; device: %s", home.hospital, where)
    return part


class AgentPart:
    """The agent's socket and the thread that serves it."""

    name = "agent"

    def __init__(self, home: NodeHome, place: CourierPlace, agent: Agent, *, group_access: bool) -> None:
        self._home, self._place, self._agent, self._group_access = home, place, agent, group_access
        self._server: AgentServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the socket is served."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Serve the socket.

        Raises:
            FederationError: the socket cannot be made.
        """
        user = self._place.user
        try:
            self._server = AgentServer(
                self._place.socket,
                self._agent,
                group_access=self._group_access,
                group=None if user is None else user.gid,
            )
        except OSError as error:
            raise FederationError(f"the agent's socket cannot be made: {error.strerror}") from error
        _point_to(self._home.state.socket_path, self._place.socket)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="agent")
        self._thread.start()

    def end(self) -> None:
        """Answer nothing new."""
        if self._server is not None:
            self._server.end()
            self._server = None

    def last_words(self) -> str:
        """What is known: the thread's error stands in the log before."""
        return "its socket is not served any more"


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
def _shared_place(home: NodeHome, connection: Connection, socket: Path | None, only: Only) -> Iterator[CourierPlace]:
    """The courier's place within the node's folder, for one user who runs both parts or starts them apart."""
    with _socket_path(home, socket, only) as path:
        yield CourierPlace(None, path, connection, home.state.flower_path)


@contextmanager
def _socket_path(home: NodeHome, wanted: Path | None, only: Only) -> Iterator[Path]:
    path = wanted or home.state.socket_path
    if len(str(path).encode()) <= LONGEST_SOCKET_PATH:
        yield path
        if only != "courier":  # the agent's file, whoever else is at it
            path.unlink(missing_ok=True)
        return
    if only != "both":
        raise InputError("the path of the agent's socket is too long", remedy="give both parts a shorter one: --socket")
    folder = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX)
    try:
        yield Path(folder) / SOCKET_FILE
    finally:
        shutil.rmtree(folder, ignore_errors=True)
