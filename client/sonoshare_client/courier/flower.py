"""All that a hospital takes from Flower, and the only module of this room that imports it.

Flower ships application code from the server and would run it; a hospital never does. Flower's SuperNode is told to
start nothing for a message (``--isolation process``): it keeps each as a task until somebody who knows a secret asks
for it. That is Flower's own loop (`run_superexec`) with an executor of ours in the place of Flower's, which starts
Flower's programs. Ours takes tasks of one kind, and lets each be answered in this installation's own process.

To answer a task is Flower's own function too. It would unpack the server's archive, install what the archive asks for,
and load the app that it names, by three functions that it has no option to replace. They are replaced here by name
(`REPLACED`). Were one of them renamed, replacing it would change nothing and the server's code would run: so every
name is checked before anything starts (`require_flower`).
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from sonoshare_client.courier.one_message import OneMessage
from sonoshare_shared.private_names import PrivateName, require_private_names
from sonoshare_shared.protocol.frame_parts import DOCUMENT, FIELD, PAYLOAD, QUERY, joined_frame, parts_to_one

if TYPE_CHECKING:
    from flwr.supercore.constant import TaskType
    from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult

FLOWER_VERSION: Final = "1.41.*"
RUNTIME: Final = "flwr.supernode.runtime.run_clientapp"
SUPEREXEC: Final = "flwr.supercore.superexec.run_superexec"
EXECUTOR: Final = "flwr.supercore.superexec.executor"
SUPERNODE: Final = "flwr.supernode.start_client_internal"
PROGRAM: Final = "flwr.supernode.cli.flower_supernode"
EXIT_HANDLERS: Final = "flwr.supercore.exit.exit_handler"
MESSAGE_TASK: Final = "flwr-clientapp"
"""The one kind of task that a hospital answers: a message for its ClientApp."""

REPLACED: Final = (
    PrivateName(RUNTIME, "install_from_fab", ("fab_file", "skip_prompt")),
    PrivateName(RUNTIME, "install_app_dependencies", ("project_dir", "launch_id", "run_id", "index_context")),
    PrivateName(RUNTIME, "get_load_client_app_fn", ("default_app_ref", "app_path", "multi_app")),
)
PRIVATE_NAMES: Final = (
    *REPLACED,
    # What calls the three, and looks them up where they are replaced.
    PrivateName(
        RUNTIME,
        "run_clientapp",
        ("runtime_api_address", "token", "insecure", "certificates", "parent_pid", "runtime_dependency_install"),
        looks_up=tuple(name.name for name in REPLACED),
    ),
    # The loop that asks the SuperNode for tasks, and the seam of its executor.
    PrivateName(SUPEREXEC, "run_superexec", looks_up=("get_executor",)),
    PrivateName(SUPEREXEC, "get_executor"),
    PrivateName(SUPEREXEC, "_TASK_POLL_INTERVAL_ENV", value="FLWR_SUPEREXEC_TASK_POLL_INTERVAL"),
    PrivateName(
        EXECUTOR,
        "Executor.get_eligible_capacity",
        ("supported_task_types", "insecure", "root_certificates_path"),
    ),
    PrivateName(EXECUTOR, "Executor.launch", ("spec",)),
    PrivateName(EXECUTOR, "Executor.reconcile", ()),
    PrivateName(EXECUTOR, "Executor.close", ()),
    PrivateName(EXECUTOR, "LaunchResult.accepted", ()),
    PrivateName(EXECUTOR, "LaunchResult.failed", ("message",)),
    PrivateName(EXIT_HANDLERS, "registered_exit_handlers"),
    PrivateName("flwr.supercore.constant", "TaskType.CLIENT_APP", value=MESSAGE_TASK),
    # The two steps of the SuperNode's loop, and what ends them.
    PrivateName(SUPERNODE, "start_client_internal", looks_up=("_pull_and_store_message", "_push_messages")),
    PrivateName(
        SUPERNODE,
        "_pull_and_store_message",
        (
            *("state", "object_store", "node_config", "receive", "get_run", "get_fab"),
            *("pull_object", "confirm_message_received", "trusted_entities"),
        ),
    ),
    PrivateName(SUPERNODE, "_push_messages", ("state", "object_store", "send", "push_object")),
    PrivateName("flwr.supercore.run", "RunNotRunningException"),
    PrivateName(PROGRAM, "flower_supernode", ()),
    # The SuperNode that starts nothing, and the secret without which it gives no task.
    PrivateName("flwr.common.constant", "ISOLATION_MODE_PROCESS", value="process"),
    PrivateName("flwr.supercore.auth", "load_superexec_auth_secret", ("secret_file",)),
    PrivateName("flwr.common.constant", "FLWR_HOME", value="FLWR_HOME"),
    PrivateName("flwr.supercore.constant", "FLWR_DISABLE_UPDATE_CHECK", value="FLWR_DISABLE_UPDATE_CHECK"),
    PrivateName("flwr.supercore.telemetry", "FLWR_TELEMETRY_ENABLED"),
)

Answer = Callable[[bytes], bytes]
"""Takes the frame of a message and gives that of the reply."""


@dataclass(frozen=True)
class Task:
    """A message that waits at a SuperNode.

    Attributes:
        address: ``host:port`` of the SuperNode's runtime routes, on loopback.
        token: what its content is given and its reply taken for.
    """

    address: str
    token: str


def require_flower() -> None:
    """Check that Flower is as this module expects it.

    Raises:
        InputError: it is not; nothing may be started.
    """
    require_private_names("flwr", FLOWER_VERSION, PRIVATE_NAMES)


def content_of(frame: bytes) -> RecordDict:
    """What a message holds of a frame: its document, and a long payload as an array."""
    document, payload = parts_to_one(frame)
    content = RecordDict({DOCUMENT: ConfigRecord({FIELD: document})})
    if payload:
        content[PAYLOAD] = ArrayRecord({FIELD: Array("uint8", (len(payload),), FIELD, payload)})
    return content


def frame_in(message: Message) -> bytes:
    """The frame that a message holds.

    Raises:
        IntegrityError: it holds none.
    """
    document = message.content.config_records.get(DOCUMENT, ConfigRecord()).get(FIELD)
    if PAYLOAD in message.content.config_records:
        return joined_frame(document, message.content.config_records[PAYLOAD].get(FIELD))
    payload = message.content.array_records.get(PAYLOAD, ArrayRecord()).get(FIELD)
    return joined_frame(document, b"" if payload is None else payload.data)


def client_app(answer: Answer) -> ClientApp:
    """The app that carries frames between Flower and ``answer``."""
    app = ClientApp()

    @app.query(QUERY)
    def carry(message: Message, _context: Context) -> Message:
        return Message(content_of(answer(frame_in(message))), reply_to=message)

    return app


class TaskTaker:
    """An executor of Flower's loop: hands on tasks that are messages, and refuses every other kind.

    Flower's own would start a program of its own for each, with the server's code in it: a run that a server calls an
    agent's, say, is never answered here.

    Args:
        start: is given each message, and returns at once.
        alive: called at every turn of the loop.
    """

    def __init__(self, start: Callable[[Task], None], alive: Callable[[], None]) -> None:
        self._start, self._alive = start, alive

    def get_eligible_capacity(
        self,
        supported_task_types: "set[TaskType]",
        *,
        insecure: bool = False,  # noqa: ARG002 - Flower passes it, here and below
        root_certificates_path: str | None = None,  # noqa: ARG002 - as above
    ) -> "tuple[set[TaskType], set[str]]":
        """Every kind is taken: the SuperNode waits for an end of each before it takes another message."""
        return supported_task_types, set()

    def launch(self, spec: "ExecutionSpec") -> "LaunchResult":
        """Hand on a message; the end of any other task is that its time runs out."""
        from flwr.supercore.superexec.executor import LaunchResult  # noqa: PLC0415 - heavy, and only here

        if spec.task_type != MESSAGE_TASK:
            return LaunchResult.failed(f"a hospital answers no {spec.task_type}")
        self._start(Task(spec.runtime_api_address, spec.token))
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Say that the loop turns."""
        self._alive()

    def close(self) -> None:
        """Nothing is held."""


def take_tasks(address: str, secret: bytes, taker: TaskTaker) -> None:
    """Ask a SuperNode for tasks until this process ends.

    Args:
        address: ``host:port`` of its runtime routes.
        secret: what it was started with.
        taker: is given the tasks.
    """
    loop = importlib.import_module(SUPEREXEC)
    vars(loop).update(get_executor=lambda *_arguments, **_options: taker)
    loop.run_superexec(
        runtime_api_address=address, insecure=True, superexec_auth_secret=secret, runtime_dependency_install=False
    )


def load_all() -> None:
    """Import whatever answering a message needs, before the first one comes."""
    for module in (RUNTIME, SUPEREXEC):
        importlib.import_module(module)


def run_supernode() -> None:
    """Be Flower's SuperNode, by this process's arguments, until it ends; see ``one_message`` for what is replaced."""
    loop = vars(importlib.import_module(SUPERNODE))
    ended: type[BaseException] = importlib.import_module("flwr.supercore.run").RunNotRunningException
    steps = OneMessage(loop["_pull_and_store_message"], loop["_push_messages"], ended)
    loop.update(_pull_and_store_message=steps.take, _push_messages=steps.send)
    importlib.import_module(PROGRAM).flower_supernode()


def answer_task(task: Task, answer: Answer) -> None:
    """Answer one message in a process of its own, whatever code the server sent with it (CASES 37).

    Raises:
        SystemExit: always, when it is done.
    """
    app = client_app(answer)

    def unpack_nothing(*_arguments: object, **_options: object) -> None:
        """Take the place of unpacking the server's archive: here it is data, never code."""

    def load_installed_app(*_arguments: object, **_options: object) -> Callable[[str, str, str], ClientApp]:
        return lambda _fab_id, _fab_version, _fab_hash: app

    # Those of the process that this one was forked from: its connection is not ours to close.
    importlib.import_module(EXIT_HANDLERS).registered_exit_handlers.clear()
    runtime = importlib.import_module(RUNTIME)
    vars(runtime).update(
        install_from_fab=unpack_nothing,
        install_app_dependencies=unpack_nothing,
        get_load_client_app_fn=load_installed_app,
    )
    runtime.run_clientapp(task.address, task.token, insecure=True, runtime_dependency_install=False)
