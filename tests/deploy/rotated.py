"""A hospital whose identity key is changed, as far as a test wants it."""

import shutil
from pathlib import Path

from tests.deploy.in_process import World

from sonoshare_client.agent.node import Node
from sonoshare_client.node.identity_rotation import prepare_identity
from sonoshare_server.consortium.rotation import rotate
from sonoshare_server.federation.introduction import introduce
from sonoshare_shared.protocol.documents.identity_succession import opened_succession
from sonoshare_shared.protocol.envelope import Envelope


def changed(world: World, hospital: str) -> str:
    """A hospital's key is changed as far as the coordinator; returns the new one. Nobody enrols the new roster."""
    envelope, new = prepare_identity(world.nodes[hospital].home)
    admitted(world, envelope)
    return new.hex


def admitted(world: World, envelope: Envelope) -> tuple[str, int]:
    """A file is admitted by a person who has compared the fingerprint."""
    return rotate(world.home, envelope, fingerprint=opened_succession(envelope)[0].document.new_key.fingerprint)


def introduced(world: World) -> None:
    """Show everybody the whole log, and log what they say of their ledgers."""
    introduce(world.coordinator(), sorted(world.nodes))


def restored(world: World, hospital: str, folder: Path) -> Node:
    """The hospital's folder gives way to an older copy, and its agent is started again."""
    home = world.nodes[hospital].home.path
    shutil.rmtree(home)
    shutil.copytree(folder, home)
    return world.reopen(hospital)


def rostered(world: World, hospital: str) -> str:
    entry = world.home.roster.hospital(hospital)
    assert entry is not None
    return entry.identity_key
