"""The hospital's own ``flwr-clientapp``: it carries frames to the agent and back, and reads none of them.

It stands first on the SuperNode's PATH in the place of Flower's program of that name. The archive that came from the
server is never unpacked, whatever it holds, and no dependency is ever installed for it. Only this installed module
runs.
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Final

from sonoshare_client.courier import flower
from sonoshare_client.courier.supernode import SOCKET_VARIABLE
from sonoshare_client.node.socket import ask_agent
from sonoshare_shared.errors import InputError

AGENT_TIMEOUT_SECONDS: Final = 24 * 3600.0
POLL_SECONDS: Final = 0.5


def answer(frame: bytes) -> bytes:
    """Pass a frame to the agent and return its answer."""
    return ask_agent(Path(os.environ[SOCKET_VARIABLE]), frame, AGENT_TIMEOUT_SECONDS)


def end_with(parent: int) -> None:
    """End this process when its parent does, whatever it is doing; it holds nothing that could be lost.

    Flower's own monitor raises a signal within its thread, and a main thread that waits for a lock never handles it.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def main() -> None:
    """Run as ``flwr-clientapp``, or end with one line when Flower is not as expected."""
    try:
        flower.require_flower()
    except InputError as error:
        sys.exit(f"error: {error}")
    if flower.PARENT_OPTION in sys.argv[:-1]:
        end_with(int(sys.argv[sys.argv.index(flower.PARENT_OPTION) + 1]))
    flower.run_program(answer)


if __name__ == "__main__":
    main()
