"""The link of this hospital to the federation, as it was last seen: for people's eyes, nothing rests on it.

    state/link.json   written by the running node whenever a test of the way ended; read by ``hospital status``

A state that is older than `STALE_SECONDS` says what was, not what is: whoever wrote it was stopped.
Times stay on this machine.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.state import read_state, write_state

LinkWord = Literal["connecting", "connected", "turned-away", "down"]
STALE_SECONDS: Final = 120.0
"""Several times the longest pause between two tests."""


@dataclass(frozen=True)
class LinkState:
    """How the link stood.

    Attributes:
        state: ``connecting`` before the first test ended; ``connected``; ``turned-away``: the coordinator answers and
            says no; ``down``: it does not answer, or something else does.
        since: since when it is so.
        looked: when it was last tested.
        superlink: ``host:port`` of the coordinator's fleet listener.
        root_certificate: PEM file that is trusted.
        cause: why it is not connected; empty if it is.
        remedy: what helps.
        last_contact: when a test last succeeded; None if none did.
        roster_version: of the coordinator's newest roster; None if it never said.
    """

    state: LinkWord
    since: datetime
    looked: datetime
    superlink: str
    root_certificate: str
    cause: str = ""
    remedy: str = ""
    last_contact: datetime | None = None
    roster_version: int | None = None

    @property
    def admitted(self) -> bool | None:
        """Whether the coordinator knows this node; None where it did not say."""
        return {"connected": True, "turned-away": False}.get(self.state)

    def stale(self, now: datetime) -> bool:
        """Whether nobody has looked for too long: the courier's part of the node is stopped."""
        return (now - self.looked).total_seconds() > STALE_SECONDS

    def seen(
        self, state: LinkWord, now: datetime, *, cause: str, remedy: str, roster_version: int | None
    ) -> "LinkState":
        """The state after a test."""
        return replace(
            self,
            state=state,
            since=self.since if (state, cause) == (self.state, self.cause) else now,
            looked=now,
            cause=cause,
            remedy=remedy,
            last_contact=now if state == "connected" else self.last_contact,
            roster_version=self.roster_version if roster_version is None else roster_version,
        )


def begun(path: Path, superlink: str, root_certificate: Path) -> LinkState:
    """The state of a node that starts: connecting; what was of the same coordinator before is kept."""
    before, now = read_link(path), datetime.now(UTC)
    same = before is not None and before.superlink == superlink
    return LinkState(
        state="connecting",
        since=now,
        looked=now,
        superlink=superlink,
        root_certificate=str(root_certificate),
        last_contact=before.last_contact if same and before else None,
        roster_version=before.roster_version if same and before else None,
    )


def read_link(path: Path) -> LinkState | None:
    """The last state; None if there is none that can be read."""
    try:
        return read_state(path, LinkState, remedy="it is written anew when the node runs")
    except (OSError, IntegrityError):
        return None


def write_link(path: Path, state: LinkState) -> None:
    """Store a state.

    Raises:
        OSError: it cannot be written.
    """
    write_state(path, state)
