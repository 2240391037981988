"""The hospital's own Flower ClientApp: it carries frames to the agent and back, and reads none of them.

Flower ships application code from the server and would run it; this hospital never does. ``main`` replaces
Flower's ``flwr-clientapp`` program (it stands first on the SuperNode's PATH): the archive that came from the server
is never unpacked, whatever it holds, and no dependency is ever installed for it. Only this installed module runs.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from sonoshare_client.node.socket import ask_agent

SOCKET_VARIABLE: Final = "SONOSHARE_AGENT_SOCKET"
AGENT_TIMEOUT_SECONDS: Final = 24 * 3600.0
RECORD: Final = "frame"
FIELD: Final = "bytes"
PARENT_OPTION: Final = "--parent-pid"
POLL_SECONDS: Final = 0.5

app = ClientApp()


@app.query("sonoshare")
def carry(message: Message, _context: Context) -> Message:
    """Pass the frame of a message to the agent and its answer back."""
    frame = message.content.config_records[RECORD][FIELD]
    if not isinstance(frame, bytes):
        raise TypeError("the message holds no frame")
    answer = ask_agent(Path(os.environ[SOCKET_VARIABLE]), frame, AGENT_TIMEOUT_SECONDS)
    return Message(RecordDict({RECORD: ConfigRecord({FIELD: answer})}), reply_to=message)


def _load_installed_app(*_args: object, **_options: object) -> Callable[[str, str, str], ClientApp]:
    return lambda _fab_id, _fab_version, _fab_hash: app


def _unpack_nothing(*_args: object, **_options: object) -> None:
    """Take the place of unpacking the server's archive: here it is data, never code."""


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
    """Run as ``flwr-clientapp``, with this module's app whatever the server sent (CASES 37)."""
    import flwr.supernode.runtime.run_clientapp as runtime  # noqa: PLC0415 - heavy, and only here
    from flwr.supernode.cli import flwr_clientapp  # noqa: PLC0415

    vars(runtime).update(
        install_from_fab=_unpack_nothing,
        install_app_dependencies=_unpack_nothing,
        get_load_client_app_fn=_load_installed_app,
    )
    if PARENT_OPTION in sys.argv[:-1]:
        end_with(int(sys.argv[sys.argv.index(PARENT_OPTION) + 1]))
    sys.argv[0] = "flwr-clientapp"
    flwr_clientapp()


if __name__ == "__main__":
    main()
