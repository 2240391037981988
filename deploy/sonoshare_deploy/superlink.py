"""Starting the SuperLink of a coordinator, and waiting until it answers."""

import contextlib
import os
import ssl
import sys
import time
from pathlib import Path
from typing import Final

import httpx

from sonoshare_deploy.addresses import Addresses, endpoint
from sonoshare_deploy.processes import Supervised, Supervisor
from sonoshare_server.paths import HOME_VARIABLE, CoordinatorPaths
from sonoshare_shared.errors import FederationError
from sonoshare_shared.loopback import loopback_direct

START_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.2
ASK_SECONDS: Final = 2.0
FLOWER_APP: Final = Path(__file__).parent / "flower_app"


class SuperLinkPart:
    """Flower's SuperLink with TLS and node authentication; only fleet routes are published.

    Args:
        home: the coordinator's folder.
        addresses: where it listens.
        supervisor: starts it.
    """

    name = "superlink"

    def __init__(self, home: CoordinatorPaths, addresses: Addresses, supervisor: Supervisor) -> None:
        self._home, self._addresses, self._supervisor = home, addresses, supervisor
        self._process: Supervised | None = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start it; it answers some seconds later."""
        command, environment = _command(self._home, self._addresses), _environment(self._home)
        self._process = self._supervisor.start(self.name, command, environment)

    def wait_until_healthy(self) -> None:
        """Wait until it answers.

        Raises:
            FederationError: it ended, or does not answer.
        """
        if self._process is not None:
            _wait_until_healthy(self._home, self._addresses, self._process)

    def end(self) -> None:
        """End it and what it has started."""
        if self._process is not None:
            self._supervisor.end(self._process)

    def last_words(self) -> str:
        """How it ended, or what it said last."""
        return "" if self._process is None else self._process.cause()


def _command(home: CoordinatorPaths, addresses: Addresses) -> list[str]:
    host, port = endpoint(addresses.control)
    return [
        *(sys.executable, "-m", "sonoshare_server.federation.superlink", addresses.fleet, "--"),
        *("--host", host, "--port", str(port)),
        *("--ssl-ca-certfile", str(home.authority_path)),
        *("--ssl-certfile", str(home.certificate_path)),
        *("--ssl-keyfile", str(home.certificate_key_path)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        *("--database", str(home.flower_database_path)),
    ]


def _environment(home: CoordinatorPaths) -> dict[str, str]:
    home.flower_path.mkdir(exist_ok=True)
    return {
        **loopback_direct(os.environ),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        HOME_VARIABLE: str(home.path.absolute()),
        "FLWR_HOME": str(home.flower_path),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "1",  # of a run's start alone; each look costs the SuperLink 6 ms
        "PYTHONUNBUFFERED": "1",
        # Each of its threads would keep what it once copied of a payload; and what is long goes back when it is freed,
        # instead of into a heap that grows with every round.
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": str(128 << 10),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
    }


def _wait_until_healthy(home: CoordinatorPaths, addresses: Addresses, superlink: Supervised) -> None:
    context = ssl.create_default_context(cafile=str(home.authority_path))
    host, port = endpoint(addresses.fleet)
    url = f"https://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/health"  # noqa: S104 - compared, not bound
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if not superlink.running:
            raise FederationError(f"the SuperLink ended: {superlink.last_line()}", remedy=f"see {superlink.log}")
        # Not through a proxy of the environment: it listens on this machine.
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, verify=context, timeout=ASK_SECONDS, trust_env=False).is_success:
                return
        time.sleep(POLL_SECONDS)
    raise FederationError("the SuperLink does not answer", remedy=f"see {superlink.log}")
