"""How a running node stands: its agent, its link to the federation, and what it has pinned. For the hospital's eyes."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.link import LinkState, read_link
from sonoshare_client.node.socket import Pulse, pulse_of
from sonoshare_client.node.witness import pinned_roster
from sonoshare_shared.errors import SonoShareError
from sonoshare_shared.locks import is_locked
from sonoshare_shared.protocol.documents import Roster

_TAIL_BYTES: Final = 64 << 10
"""Of the event log: the last request is near its end."""


@dataclass(frozen=True)
class LinkView:
    """A node as it stands.

    Attributes:
        agent: whether the agent lives.
        courier: whether a courier runs, which keeps the link.
        link: the link as it was last seen; None if the node was never started.
        roster: what it has pinned; None if it is not enrolled, or its roster cannot be read.
        unenrolled: why there is no roster; empty if there is one.
        last_request: when a request last reached the agent, and of which kind; None if none did.
    """

    agent: Pulse
    courier: bool
    link: LinkState | None
    roster: Roster | None
    unenrolled: str
    last_request: tuple[str, str] | None

    def connection(self, now: datetime) -> str:
        """One word: connected, connecting, turned-away, down, or stopped where nobody keeps a link."""
        return "stopped" if self.link is None or not self.courier or self.link.stale(now) else self.link.state


def link_view(home: NodeHome) -> LinkView:
    """Look at a node, within a second or so."""
    roster, unenrolled = None, ""
    try:
        roster = pinned_roster(home.state_path)
    except SonoShareError as error:
        unenrolled = str(error)
    return LinkView(
        agent=pulse_of(home.state.socket_path),
        courier=is_locked(home.state.courier_lock_path),
        link=read_link(home.state.link_path),
        roster=roster,
        unenrolled=unenrolled,
        last_request=_last_request(home.state.events_path),
    )


def _last_request(events: Path) -> tuple[str, str] | None:
    if not events.exists():
        return None
    with events.open("rb") as file:
        file.seek(max(0, events.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            event: Any = json.loads(line)
        except ValueError:
            continue  # the first of the tail, or one that a kill cut
        if isinstance(event, dict) and event.get("kind") == "request":
            return str(event.get("time")), str(event.get("request"))
    return None
