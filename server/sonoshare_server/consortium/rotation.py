"""Changes of keys that a hospital, or the consortium's root, has signed itself.

A node key: the hospital's identity key vouches for the new one; the old one stays registered until the new one is
online (``registration``). The root key: the new roster is signed by both, and names the new one (`rotate_root`).
"""

from pathlib import Path

from sonoshare_server.consortium.admission import root_signing_key, sign_members
from sonoshare_server.consortium.members import read_members
from sonoshare_server.consortium.registration import require_usable, retire
from sonoshare_server.federation.control import node_key_bytes
from sonoshare_server.federation.registered import same_key
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import HospitalEntry
from sonoshare_shared.protocol.documents.node_key_change import NODE_KEY_CHANGE_PAYLOAD_TYPE, NodeKeyChange
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.signed import Signed


def rotate_node_key(home: CoordinatorHome, change: Envelope, *, root_key: Path | None = None) -> tuple[str, int]:
    """Take a hospital's new node key into the roster; returns the hospital and the roster's version.

    Raises:
        InputError: the hospital is not admitted, the key is another hospital's or was taken off before, or the root
            key is not there.
        IntegrityError: the file is not signed by the hospital's identity key, or by the new node key.
    """
    members, root = read_members(home), root_signing_key(home, root_key)
    entry, said = _vouched(members, change)
    said.require_possession()
    node_key_bytes(said.new)
    if same_key(entry.node_key, said.new):
        return entry.id, home.roster.version  # done before
    if not same_key(entry.node_key, said.old):
        raise InputError(
            f"{entry.id} is admitted with another node key than the one that this file replaces",
            remedy="make the file again: sonoshare hospital keys rotate --node",
        )
    require_usable(home, said.new)
    if any(same_key(other.node_key, said.new) for other in members.values()):
        raise InputError("another hospital is admitted with this node key", remedy="make the file again")
    retire(home, entry.id, entry.node_key, "rotated")
    changed = entry.model_copy(update={"node_key": said.new})
    return entry.id, sign_members(home, {**members, entry.id: changed}, root)


def _vouched(members: dict[str, HospitalEntry], change: Envelope) -> tuple[HospitalEntry, NodeKeyChange]:
    """The hospital whose identity key signed the file, and what it says."""
    for entry in members.values():
        if entry.identity_key in {signature.keyid for signature in change.signatures}:
            said = Signed.opened(NodeKeyChange, change, entry.key, NODE_KEY_CHANGE_PAYLOAD_TYPE).document
            if (said.hospital, said.identity_key) == (entry.id, entry.identity_key):
                return entry, said
    raise InputError("the file is of no admitted hospital", remedy="see: sonoshare coordinator status")
