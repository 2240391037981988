"""Watching a running node's link to the federation: one line in the log whenever it changes, and ``state/link.json``.

The tests are made by a child with the courier's user and environment (``client.courier.watch``): the process that holds
the vault key opens no connection itself. The child ends when this process does, however it ends.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from sonoshare_client.courier.way import Outcome, from_json
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.link import LinkState, begun, write_link
from sonoshare_deploy.courier_place import CourierPlace
from sonoshare_shared.errors import FederationError
from sonoshare_shared.loopback import loopback_direct

END_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


@contextmanager
def watched_link(home: NodeHome, place: CourierPlace, root_certificate: Path) -> Iterator[None]:
    """Watch the link while the block runs.

    Args:
        home: the node's folder.
        place: the courier's, with the connection that it uses.
        root_certificate: the certificate as the user named it, for later tests.
    """
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
    threading.Thread(target=_follow, args=(home, child.stdout, state), daemon=True, name="link").start()
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


def _follow(home: NodeHome, lines: IO[bytes] | None, state: LinkState) -> None:
    for line in lines or ():
        with suppress(FederationError):  # a line that was cut when the child was killed
            seen = after(state, from_json(line.decode(errors="replace")), datetime.now(UTC))
            if (seen.state, seen.cause) != (state.state, state.cause):
                _log.log(logging.INFO if seen.state == "connected" else logging.WARNING, "%s", told(seen))
            state = seen
            _keep(home, state)


def _keep(home: NodeHome, state: LinkState) -> None:
    with suppress(OSError):  # the courier's part alone may not write into the node's folder; its log says the same
        write_link(home.state.link_path, state)
