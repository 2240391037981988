"""Flower's registry of nodes, in memory, for tests of who is admitted."""

from dataclasses import dataclass, field

from sonoshare_server.federation.registered import RegisteredNode


@dataclass
class Registry:
    """As Flower's: a node id for a key, and no key a second time, not even after it was taken off."""

    stored: dict[str, RegisteredNode] = field(default_factory=dict)
    online: set[int] = field(default_factory=set)

    def register(self, _hospital: str, public_key: str) -> int:
        assert public_key not in self.stored, "Public key already in use"
        self.stored[public_key] = RegisteredNode(100 + len(self.stored), public_key, online=False, off=False)
        return self.stored[public_key].node_id

    def unregister(self, node_id: int) -> None:
        (node,) = [one for one in self.nodes() if one.node_id == node_id]
        assert not node.off, "already deleted"
        self.stored[node.key] = RegisteredNode(node_id, node.key, online=False, off=True)

    def nodes(self) -> list[RegisteredNode]:
        return [
            RegisteredNode(one.node_id, one.key, online=one.node_id in self.online, off=one.off)
            for one in self.stored.values()
        ]

    def let_in(self) -> set[str]:
        return {one.key for one in self.nodes() if not one.off}
