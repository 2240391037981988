"""Addresses of a running coordinator, and ports that are free.

    addresses.json  {"fleet": "host:port", "control": "127.0.0.1:port", "catalogue": "http://..."}

The file is there for as long as ``coordinator start`` runs, and is read by the commands that act on a running
coordinator.
"""

import socket
from dataclasses import dataclass
from typing import Final

from sonoshare_client.courier.way import superlink_address
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.errors import InputError
from sonoshare_shared.state import read_state, write_state

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class Addresses:
    """Where a coordinator listens.

    Attributes:
        fleet: ``host:port`` that hospitals' couriers connect to.
        control: ``host:port`` of Flower's control routes; always loopback.
        catalogue: URL of the catalogue.
    """

    fleet: str
    control: str
    catalogue: str

    def write(self, home: CoordinatorPaths) -> None:
        """Store beside the coordinator's keys."""
        write_state(home.addresses_path, self)

    @staticmethod
    def forget(home: CoordinatorPaths) -> None:
        """Remove what was stored: the coordinator does not run."""
        home.addresses_path.unlink(missing_ok=True)

    @staticmethod
    def running(home: CoordinatorPaths) -> bool:
        """Whether a coordinator runs over this folder (or was killed over it)."""
        return home.addresses_path.exists()

    @classmethod
    def read(cls, home: CoordinatorPaths) -> "Addresses":
        """Read what ``coordinator start`` wrote.

        Raises:
            InputError: it was never started.
        """
        try:
            return read_state(home.addresses_path, cls, remedy="stop the coordinator and start it again")
        except FileNotFoundError as error:
            raise InputError("this coordinator is not running", remedy="run: sonoshare coordinator start") from error


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on now, all different."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def require_free(host: str, port: int) -> None:
    """Check that a port can be listened on.

    Raises:
        InputError: somebody else listens there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"port {port} on {host} is busy", remedy="stop what uses it, or choose another") from error


def endpoint(text: str) -> tuple[str, int]:
    """Split ``host:port``.

    Raises:
        InputError: it is not of that form.
    """
    return superlink_address(text)
