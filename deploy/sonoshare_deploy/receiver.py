"""The role that receives pictures: one listening process, kept running; it ends with the command that started it."""

import os

from sonoshare_client.node.home import NodeHome
from sonoshare_client.sources.settings import Settings, command, settings_of
from sonoshare_deploy.addresses import require_free
from sonoshare_deploy.processes import Supervised, Supervisor
from sonoshare_deploy.role import Seat, running
from sonoshare_shared.events import MOST_BYTES, EventLog


class ReceiverPart:
    """The listening process.

    Args:
        settings: what it is told.
        supervisor: starts it.
    """

    name = "receiver"

    def __init__(self, settings: Settings, supervisor: Supervisor) -> None:
        self._settings, self._supervisor = settings, supervisor
        self._process: Supervised | None = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start it."""
        self._process = self._supervisor.start(self.name, command(self._settings), dict(os.environ))

    def end(self) -> None:
        """End it."""
        if self._process is not None:
            self._supervisor.end(self._process)

    def last_words(self) -> str:
        """How it ended, or what it said last."""
        return "" if self._process is None else self._process.cause()


def run_receiver(home: NodeHome) -> None:
    """Receive pictures until interrupted.

    Raises:
        InputError: the policy lets nothing in, a receiver of this node runs already, or its port is busy.
        KeyboardInterrupt: when interrupted.
    """
    settings, state = settings_of(home.policy().intake.sources, home.inbox_path), home.state
    seat = Seat("receiver", state.receiver_lock_path, state.receiver_run_path)
    with (
        running([seat], EventLog(state.events_path, most_bytes=MOST_BYTES)) as role,
        Supervisor(state.logs_path) as supervisor,
    ):
        require_free(settings.address, settings.port)
        part = ReceiverPart(settings, supervisor)
        part.start()
        role.tell("receiving", title=settings.title, address=f"{settings.address}:{settings.port}")
        role.keep([part])
