"""The coordinator's long-running service: SuperLink and catalogue, both kept running.

At the end the catalogue takes no more requests, then the SuperLink ends, then nobody is told where they listened.
A SuperLink that is started again has its database, and hospitals come back to it by themselves; a run that was under
way in it is not resumed by Flower: the command that started it does that from the last whole round.
"""

import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

from sonoshare_deploy.addresses import Addresses, endpoint, require_free
from sonoshare_deploy.coordinator_watch import CertificateWatch, watched_coordinator
from sonoshare_deploy.keeping import Part
from sonoshare_deploy.monitor import MonitorPart
from sonoshare_deploy.processes import Supervisor
from sonoshare_deploy.role import Seat, StudyVoices, running
from sonoshare_deploy.superlink import SuperLinkPart
from sonoshare_server.catalogue.app import Served, create_app, served
from sonoshare_server.consortium.publication import catalogue_settings
from sonoshare_server.consortium.registration import register_nodes
from sonoshare_server.federation.control import Control
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError
from sonoshare_shared.events import MOST_BYTES, EventLog

_READY_SECONDS: Final = 120.0


def run_coordinator(
    home: CoordinatorHome, *, fleet: str, control: str, catalogue: str, monitor: str | None = None
) -> None:
    """Run SuperLink and catalogue until interrupted.

    Args:
        home: the coordinator's folder.
        fleet: ``host:port`` that hospitals connect to.
        control: ``host:port`` of Flower's control routes, on loopback.
        catalogue: ``host:port`` of the catalogue.
        monitor: ``host:port`` on loopback where its health and figures can be read; None for nowhere.

    Raises:
        InputError: an address is malformed or its port is busy, or this coordinator runs already.
        FederationError: the SuperLink does not start.
        KeyboardInterrupt: when interrupted.
    """
    endpoints = [endpoint(address) for address in (fleet, control, catalogue)]
    addresses = Addresses(fleet=fleet, control=control, catalogue=f"http://{catalogue}")
    seat = Seat("coordinator", home.start_lock_path, home.run_path)
    with ExitStack() as stack:
        role = stack.enter_context(running([seat], EventLog(home.events_path, most_bytes=MOST_BYTES), monitor))
        for host, port in endpoints:
            require_free(host, port)
        Addresses.forget(home)
        stack.callback(Addresses.forget, home)
        CertificateWatch(home, lambda: datetime.now(UTC)).check()  # one that has ended would keep everybody out
        supervisor = stack.enter_context(Supervisor(home.logs_path))
        superlink = SuperLinkPart(home, addresses, supervisor)
        superlink.start()
        superlink.wait_until_healthy()
        # Before anybody is told that it runs: an unregistered courier is turned away.
        routes = Control(control, home.authority_path)
        register_nodes(home, routes)
        pages = CataloguePart(home, *endpoints[-1])
        pages.start()
        stack.callback(pages.end)
        stack.enter_context(watched_coordinator(home, routes))
        addresses.write(home)
        role.tell("ready", fleet=fleet, catalogue=addresses.catalogue)
        parts: list[Part] = [superlink, pages]
        if monitor is not None:
            watching = MonitorPart("coordinator", home.path, monitor, supervisor)
            watching.start()
            parts.append(watching)
        role.keep(parts, StudyVoices(home.studies_path).say_new)


class CataloguePart:
    """The catalogue, in a thread of this process."""

    name = "catalogue"

    def __init__(self, home: CoordinatorHome, host: str, port: int) -> None:
        self._home, self._host, self._port = home, host, port
        self._stack = ExitStack()
        self._served: Served | None = None

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self._served is not None and self._served.running

    def start(self) -> None:
        """Serve it.

        Raises:
            FederationError: its port is taken.
        """
        app = create_app(catalogue_settings(self._home))
        self._served = self._stack.enter_context(served(app, self._host, self._port))

    def end(self) -> None:
        """Take no more requests; those that are being answered have some seconds."""
        self._stack.close()

    def last_words(self) -> str:
        """What is known: its own errors stand in the log before."""
        return "its thread has ended"


def wait_until_ready(home: CoordinatorHome, supervisor: Supervisor) -> Addresses:
    """Wait until ``run_coordinator`` in another process has written its addresses.

    Raises:
        FederationError: the process ended.
        InputError: it did not become ready.
    """
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end:
        supervisor.require_running()
        if Addresses.running(home):
            return Addresses.read(home)
        time.sleep(0.2)
    raise InputError("the coordinator did not start", remedy=f"see the logs in {home.logs_path}")
