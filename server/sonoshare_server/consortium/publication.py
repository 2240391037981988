"""What a coordinator does with finished releases: publish, take off the list, revoke.

A release is published only when it verifies (``catalogue.publishing``), and revoked in the transparency log before the
catalogue shows it. The catalogue serves what lies in ``releases/`` of the coordinator's folder, and keeps what it says
of it in ``catalogue.db`` there, or in the database that ``DATABASE_URL`` names.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Final

from sonoshare_server.catalogue.accesses import Accesses
from sonoshare_server.catalogue.accounts import Accounts, Role
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.environment import with_environment
from sonoshare_server.catalogue.public_log import OwnLog
from sonoshare_server.catalogue.publishing import COORDINATOR, publish, revoke
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import Storage, open_storage
from sonoshare_server.catalogue.store import State
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.databases import answering
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.base import values_given
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.evidence import Revocation, sign_revocation

_NAMED: Final = "the catalogue's database"


def catalogue_settings(home: CoordinatorHome) -> CatalogueSettings:
    """Settings of the catalogue in a coordinator's folder."""
    return with_environment(
        CatalogueSettings(
            database=home.catalogue_path,
            roster=lambda: home.roster_envelope,
            clock=lambda: datetime.now(UTC),
            log=OwnLog(home.log_path, home.key, lambda: datetime.now(UTC)),
            title=Consortium.read(home).name,
        )
    )


@contextmanager
def catalogue_of(home: CoordinatorHome) -> Iterator[tuple[CatalogueSettings, Storage]]:
    """The catalogue of a coordinator's folder, open: its settings and storage.

    Raises:
        StorageError: its database is not there, is damaged, or does not answer.
    """
    settings = catalogue_settings(home)
    with answering(_NAMED), closing(open_storage(settings)) as storage:
        yield settings, storage


def publish_release(home: CoordinatorHome, release: str) -> None:
    """Verify a sealed release and show it in the catalogue.

    Raises:
        InputError: there is no such release.
        VerificationError: it does not verify; nothing is published.
    """
    bundle = home.releases / release
    if not (bundle / layout.MANIFEST).exists():
        raise InputError(f"no sealed release {release}", remedy="run: sonoshare coordinator release create")
    with catalogue_of(home) as (settings, storage):
        log = None if settings.log is None else settings.log.view()
        publish(storage.releases, storage.blobs, bundle, settings.roster(), now=settings.clock(), log=log)


def catalogue_states(home: CoordinatorHome, releases: Iterable[str]) -> dict[str, tuple[State, str]]:
    """State of each of some releases in the catalogue, and why it was revoked; what was never published is left out."""
    with catalogue_of(home) as (_, storage):
        stored = map(storage.releases.find, releases)
        return {one.release: (one.state, one.reason) for one in stored if one is not None}


def unpublish_release(home: CoordinatorHome, release: str) -> None:
    """Take a release off the catalogue's list; it can be published again.

    Raises:
        InputError: it is not published.
    """
    with catalogue_of(home) as (settings, storage):
        storage.releases.hide(release, now=settings.clock())


def revoke_release(home: CoordinatorHome, release: str, reason: str) -> None:
    """Revoke a release as the coordinator, published or taken off the list: in the log first, then in the catalogue.

    Raises:
        InputError: there is no such release, or the reason is empty or too long.
    """
    with catalogue_of(home) as (settings, storage):
        stored = storage.releases.find(release)
        if stored is None:
            raise InputError(f"{release} was never published", remedy="list what was: sonoshare releases")
        with values_given("the revocation"):
            revocation = Revocation(
                release=release,
                manifest_digest=stored.manifest_digest,
                by=COORDINATOR,
                reason=reason,
                time=settings.clock(),
            )
        revoke(storage.releases, sign_revocation(revocation, home.key), home.roster, home.log())


def give_role(home: CoordinatorHome, email: str, role: Role) -> None:
    """Let somebody with an account at the catalogue see more, or less.

    Raises:
        InputError: the address has no account.
    """
    with _database(home) as database:
        Accounts(database).give_role(email, role)


def access_log(home: CoordinatorHome) -> str:
    """The catalogue's access log with names, as CSV."""
    with _database(home) as database:
        return Accesses(database).exported(names=True)


@contextmanager
def _database(home: CoordinatorHome) -> Iterator[Database]:
    settings = catalogue_settings(home)
    with answering(_NAMED), closing(Database(settings.database_url or settings.database)) as database:
        yield database
