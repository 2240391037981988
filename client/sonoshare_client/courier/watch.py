"""The process that watches the way to the coordinator: it has the courier's key and user, and no other secret.

Run as ``python -m sonoshare_client.courier.watch SUPERLINK ROOT_CERTIFICATE NODE_KEY``: writes the outcome of each test
as one line of JSON (`way.as_json`), tests again after a pause, and ends when its standard input closes: whoever started
it has ended. A line on standard input asks for a test at once. Where a next key lies beside the node key and the
coordinator knows it, a line says so before.
"""

import os
import select
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from sonoshare_client.courier.way import Way, as_json, try_way

NEXT_KEY: Final = "node.next.key"
"""Lies beside the node key while that is being changed."""
NEXT_KEY_KNOWN: Final = "the coordinator knows the next key"
CONNECTED_PAUSE: Final = 20.0
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
NEXT_KEY_PAUSE: Final = 4.0
LOOK_SECONDS: Final = 2.0
"""Within so many seconds a next key is noticed."""
_LINE_BYTES: Final = 4096


def main() -> None:
    """Test and tell until standard input closes."""
    superlink, certificate, key = sys.argv[1:]
    way, pause = Way(superlink, Path(certificate), Path(key)), FIRST_PAUSE
    following = way.node_key.with_name(NEXT_KEY)
    while True:
        tested = try_way(way)
        if following.exists() and try_way(replace(way, node_key=following)).failed is None:
            sys.stdout.write(NEXT_KEY_KNOWN + "\n")
        sys.stdout.write(as_json(tested) + "\n")
        sys.stdout.flush()
        if _asked_to_end(CONNECTED_PAUSE if tested.failed is None else pause, following):
            return
        pause = FIRST_PAUSE if tested.failed is None else min(2 * pause, LONGEST_PAUSE)


def _asked_to_end(seconds: float, following: Path) -> bool:
    """Wait, at most so long, and less while a next key waits; whether standard input was closed meanwhile."""
    end = time.monotonic() + seconds
    soon = time.monotonic() + NEXT_KEY_PAUSE
    while (now := time.monotonic()) < (min(soon, end) if following.exists() else end):
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], min(LOOK_SECONDS, end - now))
        if ready:
            return not os.read(sys.stdin.fileno(), _LINE_BYTES)
    return False


if __name__ == "__main__":
    main()
