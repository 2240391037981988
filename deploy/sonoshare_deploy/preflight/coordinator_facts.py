"""Reads a coordinator's folder, and tries its ports."""

import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from sonoshare_deploy.addresses import Addresses, endpoint, require_free
from sonoshare_deploy.certificates import certificate_made, certificate_matches, certificate_names, expiries
from sonoshare_deploy.coordinator_watch import read_fleet, roster_until
from sonoshare_deploy.invited_address import HERE_ALONE
from sonoshare_deploy.preflight import coordinator, machine
from sonoshare_deploy.preflight.finding import Finding
from sonoshare_deploy.preflight.hospital import Typed
from sonoshare_deploy.preflight.looking import Look, looked, looked_many
from sonoshare_deploy.preflight.machine_facts import machine_findings
from sonoshare_server.consortium.inviting import read_invited
from sonoshare_server.consortium.members import read_members
from sonoshare_server.consortium.publication import catalogue_settings
from sonoshare_server.databases import engine_of
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.locks import is_locked
from sonoshare_shared.protocol.log_index import LogIndex
from sonoshare_shared.science.device_word import AUTO

_ANSWER_SECONDS: Final = 3.0


def coordinator_findings(home: CoordinatorHome, usual: Addresses, now: datetime, typed: Typed) -> list[Finding]:
    """Look at a coordinator and its machine.

    Args:
        home: the coordinator's folder.
        usual: where it would listen, if it does not run.
        now: the present.
        typed: gives a command as it is typed here.
    """
    keys = (home.key_path, home.root_key_path, home.next_root_key_path, home.authority_key_path)
    found = machine_findings("server", home.path, (*keys, home.certificate_key_path), AUTO)
    running = is_locked(home.start_lock_path)
    admitted = tuple(sorted(read_members(home)))
    looks: tuple[Look, ...] = (
        ("clock", lambda: machine.clock(now, certificate_made(home).date(), "the server's certificate")),
        ("TLS", lambda: _certificate(home, typed)),
        ("root key", lambda: coordinator.root_key(here=home.root_key_path.exists(), members=len(admitted))),
        ("log", lambda: _log(home)),
        ("database", lambda: _database(home)),
        ("hospitals", lambda: _members(home, admitted, now, typed, running=running)),
        ("invitations", lambda: _invitations(home, now, typed)),
    )
    ends = looked_many("certificates", lambda: coordinator.endings(expiries(home, roster_until(home)), now))
    ports = looked_many("ports", lambda: [*_ports(home, usual, running=running)])
    return [*found, *looked(looks), *ends, *ports]


def _certificate(home: CoordinatorHome, typed: Typed) -> Finding:
    names = certificate_names(home)
    return coordinator.certificate(
        matches=certificate_matches(home),
        names=names,
        here_alone=set(names) <= HERE_ALONE,
        renew=typed("coordinator", "renew"),
    )


def _log(home: CoordinatorHome) -> Finding:
    log = home.log()
    index = LogIndex()
    if any(index.add(entry) is not None for entry in log.entries):
        return Finding("log", "fail", "it holds entries that contradict each other", "put back its newest copy")
    return Finding.ok("log", f"{len(log)} entries, each as it should be")


def _database(home: CoordinatorHome) -> Finding:
    """Whether it answers. It is brought to no newer version here: another program may be at work on it."""
    settings = catalogue_settings(home)
    place = settings.database_url or settings.database
    if place == home.catalogue_path and not home.catalogue_path.exists():
        return Finding.ok("database", "made when the coordinator first starts")
    engine = engine_of(place)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT count(*) FROM alembic_version"))
    except sa.exc.SQLAlchemyError as error:
        raise FederationError(
            f"the catalogue's database does not answer ({engine.url.render_as_string(hide_password=True)})",
            remedy="see that it runs, and DATABASE_URL; where it is a file, put back its newest copy",
        ) from error
    finally:
        engine.dispose()
    return Finding.ok("database", engine.url.get_backend_name())


def _members(
    home: CoordinatorHome, admitted: tuple[str, ...], now: datetime, typed: Typed, *, running: bool
) -> Finding:
    fleet = read_fleet(home) if running else None
    online = None if fleet is None else fleet.online_at(now)
    return coordinator.members(admitted, tuple(home.nodes), online, typed("coordinator", "invite", "--id", "NAME"))


def _invitations(home: CoordinatorHome, now: datetime, typed: Typed) -> Finding:
    waiting = {name: invited.expires for name, invited in read_invited(home).items()}
    return coordinator.invitations(waiting, now, typed("coordinator", "invite"))


def _ports(home: CoordinatorHome, usual: Addresses, *, running: bool) -> Iterator[Finding]:
    where = Addresses.read(home) if running else usual
    for name, place in (
        ("fleet", where.fleet),
        ("control", where.control),
        ("catalogue", where.catalogue.removeprefix("http://")),
    ):
        host, port = endpoint(place)
        taken = _answers(host, port) if running else _busy(host, port)
        yield coordinator.port(coordinator.Port(name, place, taken), running=running)


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_SECONDS):
            return True
    except OSError:
        return False


def _busy(host: str, port: int) -> bool:
    try:
        require_free(host, port)
    except InputError:
        return True
    return False
