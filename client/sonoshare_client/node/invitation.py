"""Answering an invitation: the node's folder with fresh keys, what the invitation said, and a request to send back.

    state/joined.json  state/ca.crt

Only public halves of keys leave, in the request. Enrolling comes after: the roster that names this hospital is not
there before a person has admitted it. The coordinator's address, authority and root key are then known already.

Promise: done again with the same invitation, a request of the same keys comes out; a folder that is another
hospital's, or that has joined another consortium, is refused before anything is written.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import Policy
from sonoshare_client.node.rotation import private_node_key
from sonoshare_client.node.witness import pinned_roster
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError, RefusedError
from sonoshare_shared.protocol.documents.invitation import (
    JOIN_REQUEST_PAYLOAD_TYPE,
    Invitation,
    JoinRequest,
    join_bytes,
)
from sonoshare_shared.protocol.documents.node_key_change import possession_signature
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, told_fingerprint
from sonoshare_shared.science.device_word import AUTO
from sonoshare_shared.state import read_state, write_state


@dataclass(frozen=True)
class Joined:
    """What the invitation said of the consortium.

    Attributes:
        consortium: its name.
        superlink: ``host:port`` of the coordinator's fleet listener.
        root_key: the consortium's root key (hex).
        coordinator_key: the coordinator's key (hex), which signed the invitation.
    """

    consortium: str
    superlink: str
    root_key: str
    coordinator_key: str


def read_joined(home: NodeHome) -> Joined | None:
    """What the invitation said; None for a node that was made without one."""
    try:
        return read_state(home.state.joined_path, Joined, remedy="join again with the invitation")
    except FileNotFoundError:
        return None


def join(
    path: Path,
    invitation: Invitation,
    *,
    now: datetime,
    root_fingerprint: str | None = None,
    policy: Policy | None = None,
    vault_key: Path | None = None,
    device: str = AUTO,
) -> tuple[NodeHome, Envelope]:
    """Make the node if it is not there, keep what the invitation says, and write the request.

    Args:
        path: the node's folder: absent, empty, or the node that was made for this hospital before.
        invitation: an opened one.
        now: the present.
        root_fingerprint: of the consortium's root key, as told by telephone; not compared if absent.
        policy: as for `NodeHome.create`; so the two after it. A node that is there must declare the same number.
        vault_key: where the vault key goes.
        device: where the node computes.

    Raises:
        RefusedError: the invitation is over, of another root key, or the folder has joined another consortium,
            or pinned a roster of another coordinator.
        InputError: the folder is another's, declares another number of patients, or what was told is no fingerprint.
    """
    root = PublicKey.from_hex(invitation.root_key)
    if invitation.expired(now):
        raise RefusedError(
            f"the invitation ended on {invitation.expires.date()}", remedy="ask the coordinator for a new one"
        )
    if root_fingerprint is not None and told_fingerprint(root_fingerprint) != root.fingerprint:
        raise RefusedError(
            "the invitation's root key has another fingerprint than the one that was told",
            remedy="ask the consortium by telephone again; if it is sure, the file is not its own: do not join",
        )
    made_before = path.exists() and any(path.iterdir())
    if made_before:
        home = NodeHome.open(path)
        _require_same(home, invitation)
        if policy is not None:
            _require_declared(home, policy.cohort.nominal)
    else:
        home = NodeHome.create(path, invitation.hospital, policy=policy, vault_key=vault_key, device=device)
    write_atomically(home.state.authority_path, invitation.authority.encode())
    said = Joined(invitation.consortium, invitation.superlink, invitation.root_key, invitation.coordinator_key)
    write_state(home.state.joined_path, said)
    return home, _request(home, invitation)


def _require_same(home: NodeHome, invitation: Invitation) -> None:
    if home.hospital != invitation.hospital:
        raise InputError(
            f"{home.path.name} is the node of {home.hospital}, and the invitation is for {invitation.hospital}",
            remedy="give another folder: --home",
        )
    before = read_joined(home)
    pinned = home.state.root_key_path.read_text().strip() if home.state.root_key_path.exists() else None
    for root_key in (before.root_key if before else None, pinned):
        if root_key is not None and root_key != invitation.root_key:
            raise RefusedError("this node has joined a consortium of another root key", remedy="make another node")
    # The root key is public: who names it could bring an address and an authority of their own.
    if pinned is not None and pinned_roster(home.state_path).coordinator_key != invitation.coordinator_key:
        raise RefusedError(
            "this node has pinned a roster of another coordinator than the one that signed the invitation",
            remedy="do not use it, and tell the consortium by telephone; a root that really names another coordinator "
            "signs a roster first: sonoshare hospital enrol",
        )


def _require_declared(home: NodeHome, patients: int) -> None:
    """What was asked for is not passed over in silence: the rules of a node that is there are its own."""
    declared = home.policy().cohort.nominal
    if declared != patients:
        raise InputError(
            f"{home.path.name} is there already, and declares {declared} trained patients",
            remedy=f"for {patients} set nominal under [cohort] in {home.policy_path}; then the same without --patients",
        )


def _request(home: NodeHome, invitation: Invitation) -> Envelope:
    identity, code = home.identity(), invitation.code_key
    said = JoinRequest(
        consortium=invitation.consortium,
        root_key=invitation.root_key,
        hospital=home.hospital,
        identity_key=identity.public.hex,
        node_key=home.node_public_key,
        node_signature=possession_signature(
            private_node_key(home.node_key_path), join_bytes(home.hospital, identity.public.hex)
        ),
    )
    return Envelope.sign(JOIN_REQUEST_PAYLOAD_TYPE, said.canonical(), code).countersigned(identity)
