"""Couriers: what the SuperLink knows of them, and which node ids frames for a hospital go to.

nodes.json  retired.json   written by ``consortium.registration``
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.state import read_state

Why = Literal["expelled", "rotated", "corrected"]
_REMEDY: Final = "put back its newest copy"


@dataclass(frozen=True)
class RegisteredNode:
    """A node key that the SuperLink knows, or knew.

    Attributes:
        node_id: Flower's id.
        key: one line of OpenSSH text, without a comment.
        online: whether a courier is connected with it.
        off: whether it was taken off: it is never let in again.
    """

    node_id: int
    key: str
    online: bool
    off: bool


@dataclass(frozen=True)
class RetiredKey:
    """A node key that no longer counts.

    Attributes:
        key: one line of OpenSSH text.
        hospital: whose it was.
        node: its node id, where it was registered.
        why: expelled, rotated by the hospital itself, or corrected because it was the wrong key.
        since: when it was retired.
        off: whether it has been taken off.
    """

    key: str
    hospital: str
    node: int | None
    why: Why
    since: datetime
    off: bool = False


def read_retired(home: CoordinatorPaths) -> list[RetiredKey]:
    """Keys that were retired, oldest first."""
    try:
        return read_state(home.retired_path, list[RetiredKey], remedy=_REMEDY)
    except FileNotFoundError:
        return []


def couriers(home: CoordinatorPaths) -> dict[str, tuple[int, ...]]:
    """Node ids of each hospital: of its newest key, then of one that it is replacing and may still use."""
    replacing: dict[str, tuple[int, ...]] = {}
    for one in read_retired(home):
        if one.why == "rotated" and not one.off and one.node is not None:
            replacing[one.hospital] = (one.node,)
    return {
        name: tuple(dict.fromkeys((node, *replacing.get(name, ())))) for name, node in registered_nodes(home).items()
    }


def short_key(line: str) -> str:
    """A line of OpenSSH text without its comment: two keys are the same exactly when these are equal."""
    return " ".join(line.split()[:2])


def same_key(one: str, other: str) -> bool:
    """Whether two lines of OpenSSH text hold one key."""
    return short_key(one) == short_key(other)


def registered_nodes(home: CoordinatorPaths) -> Mapping[str, int]:
    """Node id of each hospital's newest node key."""
    try:
        return read_state(home.nodes_path, dict[str, int], remedy=_REMEDY)
    except FileNotFoundError:
        return {}
