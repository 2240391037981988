"""All that a hospital takes from Flower, and the only module of this room that imports it.

Flower ships application code from the server and would run it; a hospital never does. Flower's ClientApp process
unpacks the server's archive, installs what it asks for, and loads the app that it names, by three functions that it has
no option to replace. They are replaced here by name (`REPLACED`). Were one of them renamed, replacing it would change
nothing and the server's code would run: so every name is checked before anything starts (`require_flower`).
"""

import importlib
import sys
from collections.abc import Callable
from typing import Final

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from sonoshare_shared.private_names import PrivateName, require_private_names

FLOWER_VERSION: Final = "1.41.*"
RUNTIME: Final = "flwr.supernode.runtime.run_clientapp"
PROGRAM: Final = "flwr-clientapp"
"""What the SuperNode looks for on its PATH, and starts for every message."""
PARENT_OPTION: Final = "--parent-pid"
RECORD: Final = "frame"
FIELD: Final = "bytes"
QUERY: Final = "sonoshare"

REPLACED: Final = (
    PrivateName(RUNTIME, "install_from_fab", ("fab_file", "skip_prompt")),
    PrivateName(RUNTIME, "install_app_dependencies", ("project_dir", "launch_id", "run_id", "index_context")),
    PrivateName(RUNTIME, "get_load_client_app_fn", ("default_app_ref", "app_path", "multi_app")),
)
PRIVATE_NAMES: Final = (
    *REPLACED,
    # What calls the three, and looks them up where they are replaced.
    PrivateName(RUNTIME, "run_clientapp", looks_up=tuple(name.name for name in REPLACED)),
    PrivateName("flwr.supernode.cli", "flwr_clientapp", (), looks_up=("run_clientapp",)),
    # The SuperNode starts this program by this name, with this option, and takes these settings.
    PrivateName("flwr.supercore.constant", "TaskType.CLIENT_APP", value=PROGRAM),
    PrivateName("flwr.common.args", "add_args_flwr_app_common", ("parser",)),
    PrivateName("flwr.common.constant", "FLWR_HOME", value="FLWR_HOME"),
    PrivateName("flwr.supercore.constant", "FLWR_DISABLE_UPDATE_CHECK", value="FLWR_DISABLE_UPDATE_CHECK"),
    PrivateName("flwr.supercore.telemetry", "FLWR_TELEMETRY_ENABLED"),
    PrivateName(
        "flwr.supercore.superexec.run_superexec", "_TASK_POLL_INTERVAL_ENV", value="FLWR_SUPEREXEC_TASK_POLL_INTERVAL"
    ),
)

Answer = Callable[[bytes], bytes]
"""Takes the frame of a message and gives that of the reply."""


def require_flower() -> None:
    """Check that Flower is as this module expects it.

    Raises:
        InputError: it is not; nothing may be started.
    """
    require_private_names("flwr", FLOWER_VERSION, PRIVATE_NAMES)


def client_app(answer: Answer) -> ClientApp:
    """The app that carries frames between Flower and ``answer``."""
    app = ClientApp()

    @app.query(QUERY)
    def carry(message: Message, _context: Context) -> Message:
        frame = message.content.config_records[RECORD][FIELD]
        if not isinstance(frame, bytes):
            raise TypeError("the message holds no frame")
        return Message(RecordDict({RECORD: ConfigRecord({FIELD: answer(frame)})}), reply_to=message)

    return app


def run_program(answer: Answer) -> None:
    """Run Flower's ClientApp process with ``client_app(answer)``, whatever the server sent (CASES 37)."""
    from flwr.supernode.cli import flwr_clientapp  # noqa: PLC0415 - heavy, and only here

    app = client_app(answer)

    def unpack_nothing(*_arguments: object, **_options: object) -> None:
        """Take the place of unpacking the server's archive: here it is data, never code."""

    def load_installed_app(*_arguments: object, **_options: object) -> Callable[[str, str, str], ClientApp]:
        return lambda _fab_id, _fab_version, _fab_hash: app

    vars(importlib.import_module(RUNTIME)).update(
        install_from_fab=unpack_nothing,
        install_app_dependencies=unpack_nothing,
        get_load_client_app_fn=load_installed_app,
    )
    sys.argv[0] = PROGRAM
    flwr_clientapp()
