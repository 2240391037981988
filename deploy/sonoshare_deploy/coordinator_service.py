"""The coordinator's long-running service: SuperLink and catalogue; and what changes the catalogue."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sonoshare_deploy.addresses import Addresses, endpoint, require_free
from sonoshare_deploy.coordinator import Consortium, register_nodes
from sonoshare_deploy.processes import Supervisor, wait_until_interrupted
from sonoshare_deploy.provision import CA_CERTIFICATE
from sonoshare_deploy.superlink import start_superlink
from sonoshare_server.catalogue.app import create_app, open_store, serving
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.federation.control import Control
from sonoshare_server.federation.home import CoordinatorHome
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.evidence import Revocation, sign_revocation, view

COORDINATOR: Final = "coordinator"
_READY_SECONDS: Final = 120.0


def catalogue_settings(home: CoordinatorHome) -> CatalogueSettings:
    """Settings of the catalogue in a coordinator's folder."""
    return CatalogueSettings(
        folder=home.path,
        roster=home.roster_envelope,
        clock=lambda: datetime.now(UTC),
        log=lambda: view(home.log()),
        title=Consortium.read(home.path).name,
    )


def run_coordinator(path: Path, *, fleet: str, control: str, catalogue: str) -> None:
    """Run SuperLink and catalogue until interrupted.

    Raises:
        InputError: an address is malformed or its port is busy.
        FederationError: the SuperLink ended, or does not start.
        KeyboardInterrupt: when interrupted.
    """
    home = CoordinatorHome(path)
    for address in (fleet, control, catalogue):
        require_free(*endpoint(address))
    host, port = endpoint(catalogue)
    addresses = Addresses(fleet=fleet, control=control, catalogue=f"http://{catalogue}")
    Addresses.forget(path)
    try:
        with Supervisor(path / "logs") as supervisor:
            start_superlink(path, addresses, supervisor)
            # Before anybody is told that it runs: an unregistered courier is turned away.
            register_nodes(path, Control(control, path / CA_CERTIFICATE))
            with serving(create_app(catalogue_settings(home)), host, port):
                addresses.write(path)
                wait_until_interrupted(supervisor)
    finally:
        Addresses.forget(path)


def wait_until_ready(path: Path, supervisor: Supervisor) -> Addresses:
    """Wait until ``run_coordinator`` in another process has written its addresses.

    Raises:
        FederationError: the process ended.
        InputError: it did not become ready.
    """
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end:
        supervisor.require_running()
        if (path / "addresses.json").exists():
            return Addresses.read(path)
        time.sleep(0.2)
    raise InputError("the coordinator did not start", remedy=f"see the logs in {path / 'logs'}")


def publish_release(path: Path, release: str) -> None:
    """Verify a sealed release and show it in the catalogue.

    Raises:
        InputError: there is no such release.
        VerificationError: it does not verify; nothing is published.
    """
    home = CoordinatorHome(path)
    bundle = home.releases / release
    if not (bundle / layout.MANIFEST).exists():
        raise InputError(f"no sealed release {release}", remedy="run: sonoshare coordinator release create")
    settings = catalogue_settings(home)
    log = None if settings.log is None else settings.log()
    open_store(settings).publish(bundle, settings.roster, now=settings.clock(), log=log)


def revoke_release(path: Path, release: str, reason: str) -> None:
    """Revoke a release as the coordinator: in the log first, then in the catalogue.

    Raises:
        InputError: there is no such release.
    """
    home = CoordinatorHome(path)
    settings = catalogue_settings(home)
    store = open_store(settings)
    stored = store.get(release)
    if stored is None:
        raise InputError(f"{release} is not published", remedy="list what is: sonoshare releases")
    revocation = Revocation(
        release=release,
        manifest_digest=stored.manifest_digest,
        by=COORDINATOR,
        reason=reason,
        time=settings.clock(),
    )
    with home.exclusive():
        store.revoke(sign_revocation(revocation, home.key), home.roster, home.log())
