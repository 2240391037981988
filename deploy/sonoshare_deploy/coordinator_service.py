"""The coordinator's long-running service: SuperLink and catalogue."""

import time
from typing import Final

from sonoshare_deploy.addresses import Addresses, endpoint, require_free
from sonoshare_deploy.processes import Supervisor, wait_until_interrupted
from sonoshare_deploy.superlink import start_superlink
from sonoshare_server.catalogue.app import create_app, serving
from sonoshare_server.consortium.publication import catalogue_settings
from sonoshare_server.consortium.registration import register_nodes
from sonoshare_server.federation.control import Control
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError

_READY_SECONDS: Final = 120.0


def run_coordinator(home: CoordinatorHome, *, fleet: str, control: str, catalogue: str) -> None:
    """Run SuperLink and catalogue until interrupted.

    Raises:
        InputError: an address is malformed or its port is busy.
        FederationError: the SuperLink ended, or does not start.
        KeyboardInterrupt: when interrupted.
    """
    for address in (fleet, control, catalogue):
        require_free(*endpoint(address))
    host, port = endpoint(catalogue)
    addresses = Addresses(fleet=fleet, control=control, catalogue=f"http://{catalogue}")
    Addresses.forget(home)
    try:
        with Supervisor(home.logs_path) as supervisor:
            start_superlink(home, addresses, supervisor)
            # Before anybody is told that it runs: an unregistered courier is turned away.
            register_nodes(home, Control(control, home.authority_path))
            with serving(create_app(catalogue_settings(home)), host, port):
                addresses.write(home)
                wait_until_interrupted(supervisor)
    finally:
        Addresses.forget(home)


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
