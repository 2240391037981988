"""Changes of keys that a hospital, or the consortium's root, has signed itself.

A node key: the hospital's identity key vouches for the new one; the old one stays registered until the new one is
online (``registration``). The root key: the new roster is signed by both, and names the new one (`rotate_root`).
"""

import base64
from pathlib import Path

from sonoshare_server.changing import one_at_a_time
from sonoshare_server.consortium.admission import next_roster, root_signing_key, sign_members
from sonoshare_server.consortium.members import read_members
from sonoshare_server.consortium.registration import require_usable, retire
from sonoshare_server.federation.control import node_key_bytes
from sonoshare_server.federation.registered import same_key
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.durable import move, write_atomically
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import HospitalEntry, Roster
from sonoshare_shared.protocol.documents.node_key_change import NODE_KEY_CHANGE_PAYLOAD_TYPE, NodeKeyChange
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.signed import Signed


@one_at_a_time
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


@one_at_a_time
def rotate_root(home: CoordinatorHome, *, root_key: Path | None = None) -> tuple[SigningKey, int]:
    """Give the consortium a new root key: the next roster is signed by both; returns the key and the roster's version.

    Hospitals that have pinned the old key follow only because it signed too. The roster names every roster that a
    release rests on by its digest, so that old releases verify with the new roster, and the old key is trusted with
    nothing any more. A change that was cut off is ended by the same command.

    Args:
        home: the coordinator's folder.
        root_key: file of the old key; in the folder if absent.

    Raises:
        InputError: nobody is admitted yet, or the old key is not there.
    """
    members = read_members(home)
    if not members:
        raise InputError("nobody is admitted yet", remedy="run: sonoshare coordinator admit")
    path = home.next_root_key_path
    if not path.exists():
        old = root_signing_key(home, root_key)
        SigningKey.generate().save(path)
    new = SigningKey.load(path)
    if home.roster.root_key != new.public.hex:
        old = root_signing_key(home, root_key)
        roster = next_roster(home, members, new.public, [*_rosters_of_releases(home), home.roster.digest()])
        signed = Envelope.sign(ROSTER_PAYLOAD_TYPE, roster.canonical(), new).countersigned(old)
        write_atomically(home.roster_path, signed.to_bytes())
    # Until here the old key is this folder's root, and the roster is signed by it too: a kill leaves what works.
    write_atomically(home.root_public_path, f"{new.public.hex}\n".encode())
    move(path, home.root_key_path)
    return new, home.roster.version


def _rosters_of_releases(home: CoordinatorHome) -> list[str]:
    """Digests of the rosters that sealed releases rest on."""
    found: dict[str, None] = {}
    for release in home.sealed_releases():
        envelope = Envelope.load(home.releases / release / layout.ROSTER)
        found[Signed.opened(Roster, envelope, _named_root(envelope), ROSTER_PAYLOAD_TYPE).digest] = None
    return list(found)


def _named_root(envelope: Envelope) -> PublicKey:
    """The root key that a roster of one's own folder names."""
    return PublicKey.from_hex(Roster.from_bytes(base64.b64decode(envelope.payload)).root_key)
