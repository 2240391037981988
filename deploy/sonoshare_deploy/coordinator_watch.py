"""What a running coordinator looks after by itself: who is online, and what ends.

    fleet.json   which couriers are online, as Flower said last, and when each last was; read by ``coordinator status``

Every `LOOK_SECONDS` the SuperLink is asked for its nodes; couriers of new members are let in and retired keys taken
off. Every `CERTIFICATE_SECONDS` the server's certificate is renewed if it is due, and what ends soon is said in the
log, once a day.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sonoshare_deploy.certificates import due, expiries, renew
from sonoshare_server.consortium.registration import NodeRegistry, register_nodes
from sonoshare_server.federation.registered import couriers
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.errors import IntegrityError, SonoShareError
from sonoshare_shared.state import read_state, write_state

LOOK_SECONDS: Final = 10.0
CERTIFICATE_SECONDS: Final = 3600.0
_STALE: Final = timedelta(seconds=60)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fleet:
    """Couriers as Flower saw them.

    Attributes:
        looked: when it was asked.
        online: hospitals whose courier was connected then.
        last_seen: when a hospital's courier was last known to be connected.
    """

    looked: datetime
    online: tuple[str, ...]
    last_seen: dict[str, datetime]

    def online_at(self, now: datetime) -> tuple[str, ...] | None:
        """Who is online; None where nobody has looked for too long."""
        return None if now - self.looked > _STALE else self.online


def read_fleet(home: CoordinatorPaths) -> Fleet | None:
    """The last look; None before the first."""
    try:
        return read_state(home.fleet_path, Fleet, remedy="it is written anew")
    except (OSError, IntegrityError):
        return None


@contextmanager
def watched_coordinator(home: CoordinatorHome, registry: NodeRegistry) -> Iterator[None]:
    """Look after a running coordinator while the block runs."""
    ended = threading.Event()
    certificates = CertificateWatch(home, lambda: datetime.now(UTC))

    def look_after() -> None:
        next_check = 0.0
        passed = 0.0
        while True:
            try:
                look(home, registry, datetime.now(UTC))
                if passed >= next_check:
                    next_check = passed + CERTIFICATE_SECONDS
                    certificates.check()
            except (SonoShareError, OSError) as error:
                _log.warning("%s", error)
            if ended.wait(LOOK_SECONDS):
                return
            passed += LOOK_SECONDS

    thread = threading.Thread(target=look_after, daemon=True, name="watch")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LOOK_SECONDS)


def look(home: CoordinatorPaths, registry: NodeRegistry, now: datetime) -> Fleet:
    """Ask who is online, let in who is admitted, take off who has left.

    Raises:
        FederationError: the SuperLink is gone.
    """
    register_nodes(home, registry, lambda: now)
    nodes = {node.node_id: node for node in registry.nodes()}
    members = couriers(home)
    online = tuple(sorted(h for h, ids in members.items() if any(i in nodes and nodes[i].online for i in ids)))
    before = read_fleet(home)
    seen = {h: then for h, then in (before.last_seen if before else {}).items() if h in members}
    fleet = Fleet(looked=now, online=online, last_seen=seen | dict.fromkeys(online, now))
    write_state(home.fleet_path, fleet)
    return fleet


class CertificateWatch:
    """Renews the server's certificate when it is due, and warns of what a person must renew.

    Args:
        home: the coordinator's folder.
        clock: the present.
    """

    def __init__(self, home: CoordinatorHome, clock: Callable[[], datetime]) -> None:
        self._home, self._clock = home, clock
        self._warned: dict[str, datetime] = {}

    def check(self) -> None:
        """Look once."""
        now = self._clock()
        if due(self._home, now):
            try:
                renewed = renew(self._home, now=now)
                _log.info("the server's certificate was renewed; it lasts until %s", renewed.until.date())
            except SonoShareError as error:
                self._warn("renewal", f"the server's certificate is due and was not renewed: {error}", now)
        for ending in expiries(self._home, roster_until(self._home)):
            if ending.warns(now):
                days = ending.days_left(now)
                left = f"ends in {days} days" if days >= 0 else "has ended"
                self._warn(ending.name, f"{ending.name.replace('-', ' ')} {left} ({ending.remedy})", now)

    def _warn(self, what: str, words: str, now: datetime) -> None:
        if now - self._warned.get(what, now - timedelta(days=2)) >= timedelta(days=1):
            self._warned[what] = now
            _log.warning("%s", words)


def roster_until(home: CoordinatorHome) -> datetime | None:
    """When the newest roster expires; None before the first."""
    return home.roster.expires if home.roster_path.exists() else None
