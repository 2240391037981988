"""Admitting and expelling hospitals: every change signs a new roster, one version above the last.

    members.json  roster.dsse.json  nodes.json

The roster is signed by the consortium's root key, which signs nothing else and is needed here alone. A hospital's
courier is registered with the SuperLink once, under the node key that it was admitted with; the node id that Flower
gives it is what frames are later addressed to, never an id that a reply claims.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from sonoshare_server.catalogue.publishing import COORDINATOR
from sonoshare_server.consortium.members import Consortium, read_members, write_members
from sonoshare_server.federation.control import node_key_bytes
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import HospitalEntry, Roster
from sonoshare_shared.protocol.documents.base import Identifier, values_given
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.state import write_state

ROSTER_DAYS: Final = 365


class NodeRegistry(Protocol):
    """Where couriers are registered (``federation.control.Control``)."""

    def register(self, hospital: str, public_key: str) -> int:
        """Register a courier's node key and return its node id."""


def admit(home: CoordinatorHome, hospital: Identifier, identity_key: str, node_key: str) -> int:
    """Admit a hospital and sign a new roster; returns the roster's version.

    Args:
        home: the coordinator's folder.
        hospital: the hospital's id.
        identity_key: its Ed25519 public key, 64 hexadecimal characters.
        node_key: its courier's public key, one line of OpenSSH text.

    Raises:
        InputError: a key is unusable or another hospital's, or the id is taken: by another key, or by the coordinator.
    """
    members = read_members(home)
    if hospital == COORDINATOR:
        raise InputError(f"{hospital} names the coordinator in evidence and revocations", remedy="choose another id")
    PublicKey.from_hex(identity_key)
    node_key_bytes(node_key)
    with values_given("the hospital"):
        entry = HospitalEntry(id=hospital, identity_key=identity_key, node_key=node_key.strip())
    if members.get(hospital, entry) != entry:
        raise InputError(
            f"{hospital} is admitted with other keys",
            remedy="choose another id, or first: sonoshare coordinator expel",
        )
    for other in members.values():
        if other.id != hospital and {other.identity_key, other.node_key} & {entry.identity_key, entry.node_key}:
            raise InputError(f"{other.id} is admitted with one of these keys", remedy="ask the hospital for its own")
    return _sign_members(home, {**members, hospital: entry})


def expel(home: CoordinatorHome, hospital: Identifier) -> int:
    """Sign a new roster without a hospital; returns the roster's version.

    Releases keep the roster that they were made under, so those that the hospital signed verify as before.

    Raises:
        InputError: it is not admitted, or the only one.
    """
    members = read_members(home)
    if hospital not in members:
        raise InputError(f"{hospital} is not admitted", remedy="see: sonoshare coordinator status")
    if len(members) == 1:
        raise InputError(f"{hospital} is the only hospital", remedy="admit another one first")
    version = _sign_members(home, {name: entry for name, entry in members.items() if name != hospital})
    write_state(home.nodes_path, {name: node for name, node in home.nodes.items() if name != hospital})
    return version


def register_nodes(home: CoordinatorHome, registry: NodeRegistry) -> None:
    """Register the couriers of all admitted hospitals, each once, and remember their node ids."""
    for hospital, entry in read_members(home).items():
        known = home.nodes
        if hospital not in known:
            write_state(home.nodes_path, {**known, hospital: registry.register(hospital, entry.node_key)})


def _sign_members(home: CoordinatorHome, members: Mapping[str, HospitalEntry]) -> int:
    root, consortium = SigningKey.load(home.root_key_path), Consortium.read(home)
    roster = Roster(
        consortium=consortium.name,
        version=_version(home, root.public) + 1,
        expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=ROSTER_DAYS),
        root_key=root.public.hex,
        coordinator_key=home.key.public.hex,
        hospitals=tuple(sorted(members.values(), key=lambda entry: entry.id)),
        audit_policy=consortium.audit.digest(),
    )
    write_atomically(home.roster_path, Envelope.sign(ROSTER_PAYLOAD_TYPE, roster.canonical(), root).to_bytes())
    write_members(home, members)
    return roster.version


def _version(home: CoordinatorHome, root: PublicKey) -> int:
    if not home.roster_path.exists():
        return 0
    return Signed.opened(Roster, home.roster_envelope, root, ROSTER_PAYLOAD_TYPE).document.version
