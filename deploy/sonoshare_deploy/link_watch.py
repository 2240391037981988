"""Watching a running node's link to the federation: one line in the log whenever it changes, and ``state/link.json``.

The tests are made by a child with the courier's user and environment (``client.courier.watch``): the process that holds
the vault key opens no connection itself. The child ends when this process does, however it ends.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from sonoshare_client.courier.watch import NEXT_KEY, NEXT_KEY_KNOWN
from sonoshare_client.courier.way import Outcome, from_json
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.joining import require_named
from sonoshare_client.node.link import LinkState, begun, write_link
from sonoshare_client.node.rotation import take_next_key
from sonoshare_client.node.socket import pulse_of
from sonoshare_client.node.witness import pinned_roster
from sonoshare_deploy.courier_place import CourierPlace
from sonoshare_shared.errors import FederationError, SonoShareError
from sonoshare_shared.loopback import loopback_direct

END_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


@contextmanager
def watched_link(
    home: NodeHome, place: CourierPlace, root_certificate: Path, restart: Callable[[], None]
) -> Iterator[None]:
    """Watch the link while the block runs, and take the node's next key when the coordinator knows it.

    Args:
        home: the node's folder.
        place: the courier's, with the connection that it uses.
        root_certificate: the certificate as the user named it, for later tests.
        restart: ends the courier, which is then started again, with the key that is there.
    """
    _warn_unnamed(home)
    connection, user = place.connection, place.user
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "sonoshare_client.courier.watch"),
            *(connection.superlink, str(connection.root_certificate), str(connection.node_key)),
        ],
        env=loopback_direct(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else (),
        cwd=None if user is None else place.flower,
    )
    state = begun(home.state.link_path, connection.superlink, root_certificate)
    _keep(home, state)
    follow = _Follower(home, place, restart)
    thread = threading.Thread(target=follow.lines, args=(child.stdout, state), daemon=True, name="link")
    thread.start()
    try:
        yield
    finally:
        if child.stdin is not None:
            child.stdin.close()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        thread.join(END_SECONDS)
        if child.stdout is not None:
            child.stdout.close()


def after(state: LinkState, tested: Outcome, now: datetime) -> LinkState:
    """The state after a test."""
    failed = tested.failed
    return state.seen(
        tested.link,
        now,
        cause="" if failed is None else failed.found,
        remedy="" if failed is None else failed.remedy,
        roster_version=tested.roster_version,
    )


def told(state: LinkState) -> str:
    """One line for the log."""
    if state.state == "connected":
        return f"link: {state.superlink} answers and knows this node"
    words = {"turned-away": "turned away by", "down": "no link to", "connecting": "connecting to"}[state.state]
    return f"link: {words} {state.superlink}: {state.cause} ({state.remedy})"


class _Follower:
    """Reads what the child says."""

    def __init__(self, home: NodeHome, place: CourierPlace, restart: Callable[[], None]) -> None:
        self._home, self._place, self._restart = home, place, restart

    def lines(self, lines: IO[bytes] | None, state: LinkState) -> None:
        """Follow it to its end."""
        self._lay_out_next_key()
        for line in lines or ():
            said = line.decode(errors="replace").strip()
            with suppress(FederationError):  # a line that was cut when the child was killed
                if said == NEXT_KEY_KNOWN:
                    self._take_next_key()
                    continue
                seen = after(state, from_json(said), datetime.now(UTC))
                if (seen.state, seen.cause) != (state.state, state.cause):
                    _log.log(logging.INFO if seen.state == "connected" else logging.WARNING, "%s", told(seen))
                state = seen
                _keep(self._home, state)
            self._lay_out_next_key()

    def _take_next_key(self) -> None:
        """The coordinator knows the next key: between two requests the courier goes over to it."""
        if pulse_of(self._home.state.socket_path).busy is not None:
            return  # the answer goes back by the way that the request came
        try:
            taken = take_next_key(self._home)
            self._place.lay_out(self._home.node_key_path, self._place.connection.node_key.name)
        except OSError as error:
            _log.warning("the next node key cannot be taken: %s", error.strerror)
            return
        if taken:
            _log.info("the coordinator knows the next node key: the courier goes over to it")
            self._restart()

    def _lay_out_next_key(self) -> None:
        """Let a courier under a user of its own try the next key."""
        with suppress(OSError):
            self._place.lay_out(self._home.next_node_key_path, NEXT_KEY)


def _warn_unnamed(home: NodeHome) -> None:
    """A roster that was pinned by an older version, or before a key was lost, may be about another node than this."""
    try:
        require_named(pinned_roster(home.state_path), home, node_key=False)
    except SonoShareError as error:
        _log.warning("%s", error)


def _keep(home: NodeHome, state: LinkState) -> None:
    with suppress(OSError):  # the courier's part alone may not write into the node's folder; its log says the same
        write_link(home.state.link_path, state)
