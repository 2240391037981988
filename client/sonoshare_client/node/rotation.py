"""Changing a node's keys without a stop: the courier's key here; its identity does not change (docs/keys.md).

1. `prepare_node_key` makes ``node.next.key`` and a file for the coordinator, signed by the identity key, and by both
   node keys. The courier goes on with the old key.
2. The coordinator registers the new key beside the old (``coordinator admit --rotate FILE``).
3. The running node notices that the new key is known, and takes it (`take_next_key`); its courier is started anew. The
   coordinator takes the old key off when the new one is online.

Each step can be repeated, and a kill between two leaves a node that goes on with the old key or with the new one.
"""

from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sonoshare_client.node.changing import changing
from sonoshare_client.node.home import NodeHome, write_node_key
from sonoshare_shared.durable import move
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.node_key_change import (
    NODE_KEY_CHANGE_PAYLOAD_TYPE,
    NodeKeyChange,
    possession_bytes,
    possession_signature,
)
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.link import key_line


def prepare_node_key(home: NodeHome) -> Envelope:
    """Make the courier's next key, or take the one that was made before, and sign the change.

    Raises:
        InputError: a key cannot be read.
        FederationError: another command changes the keys.
    """
    with changing(home.state):
        return _prepared(home)


def _prepared(home: NodeHome) -> Envelope:
    _end_what_was_cut_off(home)
    if not home.next_node_key_path.exists():
        write_node_key(home.next_node_key_path, home.next_node_public_key_path)
    following = private_node_key(home.next_node_key_path)
    new, old, old_signature = key_line(following.public_key()), home.node_public_key, ""
    said = possession_bytes(home.hospital, old, new)
    with suppress(InputError):  # lost: the identity key vouches alone
        present = private_node_key(home.node_key_path)
        if key_line(present.public_key()) == old:
            old_signature = possession_signature(present, said)
    identity = home.identity()
    change = NodeKeyChange(
        hospital=home.hospital,
        identity_key=identity.public.hex,
        old=old,
        new=new,
        new_signature=possession_signature(following, said),
        old_signature=old_signature,
    )
    return Envelope.sign(NODE_KEY_CHANGE_PAYLOAD_TYPE, change.canonical(), identity)


def take_next_key(home: NodeHome) -> bool:
    """Make the next key the node's own; returns whether there was one. A change that was cut off is ended first.

    Raises:
        FederationError: a command changes the keys.
    """
    with changing(home.state):
        _end_what_was_cut_off(home)
        if not home.next_node_key_path.exists():
            return False
        move(home.next_node_key_path, home.node_key_path)
        move(home.next_node_public_key_path, home.node_public_key_path)
        return True


def _end_what_was_cut_off(home: NodeHome) -> None:
    """A public half without its private one: of a key that was taken already, or of one that was never made whole."""
    public = home.next_node_public_key_path
    if home.next_node_key_path.exists() or not public.exists():
        return
    with suppress(InputError):
        if key_line(private_node_key(home.node_key_path).public_key()) == public.read_text(encoding="ascii").strip():
            move(public, home.node_public_key_path)
            return
    public.unlink()


def private_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a courier's private key.

    Raises:
        InputError: it cannot be read, or is no key of an elliptic curve.
    """
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path.name} cannot be read", remedy="make a new one: sonoshare hospital keys rotate --node"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path.name} is no node key", remedy="bring back the node's own")
    return key
