"""The coordinator's own use of Flower's control routes on loopback: register nodes, start runs, watch and stop them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

from sonoshare_server.federation.flower import COMPLETED, FINISHED, ONLINE, UNREGISTERED, ControlRoutes, key_bytes
from sonoshare_server.federation.registered import RegisteredNode
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.protocol.link import key_line

POLL_SECONDS: Final = 0.5
_STOPPED: Final = "see its log; if it is stopped, run: sonoshare coordinator start"


@dataclass(frozen=True)
class RunStatus:
    """Status of a Flower run: whether it has ended, and how."""

    finished: bool
    succeeded: bool
    details: str


class Control:
    """Control routes of a SuperLink on loopback.

    Args:
        address: ``host:port`` of the private listener.
        root_certificate: PEM file of the authority that signed its certificate.

    Raises:
        InputError: Flower is not as expected.
    """

    def __init__(self, address: str, root_certificate: Path) -> None:
        self._routes = ControlRoutes(address, root_certificate)

    def register(self, hospital: str, public_key: str) -> int:
        """Admit a hospital's courier by its node key (one line of OpenSSH text); returns its Flower node id.

        Raises:
            InputError: the key is not on an elliptic curve that Flower accepts.
            FederationError: the SuperLink is gone, or has had the key before.
        """
        stored = node_key_bytes(public_key)
        with _asking(f"the courier of {hospital} was not registered"):
            return int(self._routes.register(stored, hospital).node_id)

    def unregister(self, node_id: int) -> None:
        """Take a courier off for good: Flower takes no key a second time.

        Raises:
            FederationError: the SuperLink is gone, or does not know it.
        """
        with _asking("a courier was not taken off"):
            self._routes.unregister(node_id)

    def nodes(self) -> list[RegisteredNode]:
        """Every courier that was ever registered.

        Raises:
            FederationError: the SuperLink is gone.
        """
        with _asking("who is online is not known"):
            found = self._routes.nodes().nodes_info
        return [
            RegisteredNode(
                node_id=int(node.node_id),
                key=_line(node.public_key),
                online=node.status == ONLINE,
                off=node.status == UNREGISTERED,
            )
            for node in found
        ]

    def start(self, app_folder: Path, config: dict[str, str]) -> int:
        """Start a run of the thin app with this run configuration; returns its id."""
        return int(self._routes.start(app_folder, config).run_id)

    def stop(self, run_id: int) -> None:
        """Stop a run; one that has ended stays as it is."""
        if not self.status(run_id).finished:
            self._routes.stop(run_id)

    def status(self, run_id: int) -> RunStatus:
        """How a run stands."""
        status = self._routes.list(run_id).run_dict[run_id].status
        return RunStatus(
            finished=status.status == FINISHED,
            succeeded=status.status == FINISHED and status.sub_status == COMPLETED,
            details=str(status.details),
        )

    def wait(self, run_id: int, timeout_seconds: float, *, watch: Callable[[], None] | None = None) -> RunStatus:
        """Wait for a run to end; ``watch`` is called at every look.

        Raises:
            FederationError: it did not end in time, or the SuperLink is gone.
        """
        end = time.monotonic() + timeout_seconds
        while time.monotonic() < end:
            try:
                status = self.status(run_id)
            except httpx.HTTPError as error:
                raise FederationError("the SuperLink does not answer", remedy=_STOPPED) from error
            if watch is not None:
                watch()
            if status.finished:
                return status
            time.sleep(POLL_SECONDS)
        raise FederationError("the run did not end in time", remedy="resume the study")


@contextmanager
def _asking(otherwise: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise FederationError(f"{otherwise}: status {error.response.status_code}", remedy="see its log") from error
    except httpx.HTTPError as error:
        raise FederationError("the SuperLink does not answer", remedy=_STOPPED) from error


def node_key_bytes(text: str) -> bytes:
    """A courier's public key as the SuperLink stores it.

    Raises:
        InputError: it is not one line of OpenSSH text, or not of a NIST elliptic curve.
    """
    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError("the node key is not an OpenSSH public key", remedy="send the hospital's node key") from error
    stored = key_bytes(key) if isinstance(key, ec.EllipticCurvePublicKey) else None
    if stored is None:
        raise InputError("the node key is not on a NIST elliptic curve", remedy="send the hospital's node key")
    return stored


def _line(stored: bytes) -> str:
    """A key as the SuperLink stores it, as one line of OpenSSH text; empty for one of another kind."""
    key = load_pem_public_key(stored)
    return key_line(key) if isinstance(key, ec.EllipticCurvePublicKey) else ""
