"""What the SuperLink knows of a courier."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RegisteredNode:
    """A node key that the SuperLink knows, or knew.

    Attributes:
        node_id: Flower's id.
        key: one line of OpenSSH text, without a comment.
        online: whether a courier is connected with it.
        off: whether it was taken off: it is never let in again.
        last_seen: when it last came or went, as Flower says; empty if it never did.
    """

    node_id: int
    key: str
    online: bool
    off: bool
    last_seen: str = ""
