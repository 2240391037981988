"""Which couriers the SuperLink lets in: the node keys of the admitted hospitals, and of nobody who has left.

    nodes.json    Flower's node id of each hospital's newest node key: where frames for it go
    retired.json  node keys that are to be, or were, taken off the SuperLink

The key of a hospital that was *expelled* is taken off at once. One that was *rotated* stays until the new key has been
seen online, so that a hospital changes its key without missing a frame. One that was *corrected* stays for a day: it
may be another hospital's, mixed up, and Flower takes no key a second time. No frame goes to it meanwhile. For the same
reason only keys that this coordinator itself has retired are ever taken off: a folder whose members were lost must not
lock everybody out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from sonoshare_server.consortium.members import read_members
from sonoshare_server.federation.registered import (
    RegisteredNode,
    RetiredKey,
    Why,
    read_retired,
    registered_nodes,
    same_key,
    short_key,
)
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.locks import locked
from sonoshare_shared.state import write_state

CORRECTED_STAYS: Final = timedelta(days=1)
WAIT_SECONDS: Final = 30.0


class NodeRegistry(Protocol):
    """Where couriers are registered (``federation.control.Control``)."""

    def register(self, hospital: str, public_key: str) -> int:
        """Register a courier's node key and return its node id."""

    def unregister(self, node_id: int) -> None:
        """Take a node off; its key is never let in again."""

    def nodes(self) -> Sequence[RegisteredNode]:
        """Every node key that was ever registered."""


def retire(home: CoordinatorPaths, hospital: str, key: str, why: Why) -> None:
    """Remember that a node key is to be taken off; before the members change, so that a kill forgets nothing."""
    with _alone(home):
        others = [one for one in read_retired(home) if not same_key(one.key, key)]
        node = registered_nodes(home).get(hospital)
        write_state(home.retired_path, [*others, RetiredKey(key, hospital, node, why, datetime.now(UTC))])


def forget_node(home: CoordinatorPaths, hospital: str) -> None:
    """No frame goes to a hospital's courier any more."""
    with _alone(home):
        write_state(home.nodes_path, {name: node for name, node in registered_nodes(home).items() if name != hospital})


def require_usable(home: CoordinatorPaths, key: str) -> None:
    """Check that a node key was not taken off before.

    Raises:
        InputError: it was.
    """
    if any(one.off and same_key(one.key, key) for one in read_retired(home)):
        raise InputError(
            "this node key was taken off before, and Flower takes no key twice",
            remedy="the hospital makes a new one: sonoshare hospital keys rotate --node",
        )


def register_nodes(
    home: CoordinatorPaths, registry: NodeRegistry, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> None:
    """Register the couriers of all admitted hospitals, each once, keep their node ids, and take retired keys off."""
    with _alone(home):
        members, there = read_members(home), registry.nodes()
        known = {node.key: node for node in there if not node.off}
        for hospital, entry in members.items():
            nodes, found = registered_nodes(home), known.get(short_key(entry.node_key))
            node = registry.register(hospital, entry.node_key) if found is None else found.node_id
            if nodes.get(hospital) != node:
                write_state(home.nodes_path, {**nodes, hospital: node})
        _take_off(home, registry, {node.node_id for node in there if node.online}, now())


def _take_off(home: CoordinatorPaths, registry: NodeRegistry, online: set[int], now: datetime) -> None:
    retired, members, nodes = read_retired(home), read_members(home), registered_nodes(home)
    registered = {node.key: node.node_id for node in registry.nodes() if not node.off} if retired else {}
    kept = []
    for one in retired:
        node = registered.get(short_key(one.key))
        if any(same_key(entry.node_key, one.key) for entry in members.values()):
            continue  # admitted again, or never replaced: its change was cut off
        awaits = one.why == "rotated" and one.hospital in members and nodes.get(one.hospital) not in online
        if one.off or awaits or (one.why == "corrected" and now - one.since < CORRECTED_STAYS):
            kept.append(one)
        elif node is not None:
            registry.unregister(node)
            kept.append(replace(one, off=True))
    if kept != retired:
        write_state(home.retired_path, kept)


@contextmanager
def _alone(home: CoordinatorPaths) -> Iterator[None]:
    """The running coordinator and a command change the same two files."""
    busy = FederationError("another command changes who is let in", remedy="try again")
    with locked(home.nodes_lock_path, busy, WAIT_SECONDS):
        yield
