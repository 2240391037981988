"""Which releases a catalogue knows, and in which state each is.

    show ──▶ published ──▶ unpublished ──▶ published …
                 │              │
                 └──▶ revoked ◀─┘          (for ever: a revoked manifest is never shown again)

A store keeps what it is told in one step each, durably, and refuses what the picture does not allow, whoever asks at
the same time. Whether a release may be shown is not its question: ``publishing`` asks ``verify_release`` first, and
``show`` takes that answer.

``ReleaseStore`` is what catalogue and coordinator need; ``SqlReleases`` keeps it in the catalogue's database.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import sqlalchemy as sa

from sonoshare_server.catalogue.database import Database, change
from sonoshare_server.catalogue.kept import Kept
from sonoshare_server.catalogue.listing import Choices, Found, Wanted, choices, found, newest, relist
from sonoshare_server.catalogue.schema import RELEASES
from sonoshare_shared.errors import InputError, RefusedError
from sonoshare_shared.protocol.release.verify import Verified

State = Literal["published", "unpublished", "revoked"]

_CHANGES: Final = "releases"
_MOST_FILES: Final = 200_000
"""Of releases that are kept in memory, some 300 bytes each."""


@dataclass(frozen=True)
class StoredFile:
    """One file of a published release."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class StoredRelease:
    """A release as the catalogue knows it.

    Attributes:
        release: identifier.
        sequence: number of the release among all of the consortium.
        state: published, unpublished or revoked.
        reason: why it was revoked.
        place: where its files are, in the words of the catalogue's ``Blobs``.
        manifest_digest: sha256 of its manifest.
        summary: what API and pages say of it.
        files: every file, by path.
    """

    release: str
    sequence: int
    state: State
    reason: str
    place: str
    manifest_digest: str
    summary: Mapping[str, Any]
    files: Mapping[str, StoredFile]

    def as_seen(self) -> dict[str, Any]:
        """What API and pages say of it, its state included."""
        return {**self.summary, "state": self.state, "reason": self.reason}


class ReleaseStore(Protocol):
    """The releases of one catalogue."""

    def releases(self) -> Mapping[str, StoredRelease]:
        """Every release that the public may see, the published and the revoked, by identifier; newest first."""

    def standing(self) -> int:
        """How often anything that is said here was changed, by anybody: while it stands, so does what was read."""

    def listed(self, behind: tuple[int, str] | None, limit: int) -> list[dict[str, Any]]:
        """What is said of public releases, newest first.

        Args:
            behind: sequence and identifier of the release that they come behind; from the newest on if None.
            limit: most of them.
        """

    def public(self, release: str) -> StoredRelease | None:
        """A release that the public may see, or None."""

    def search(self, wanted: Wanted) -> Found:
        """One page of the public releases that somebody looks for."""

    def choices(self) -> Choices:
        """What can be looked for among the public releases."""

    def find(self, release: str) -> StoredRelease | None:
        """A release in any state, or None."""

    def show(self, verified: Verified, stored: StoredRelease, *, now: datetime) -> None:
        """List a release that was verified.

        Raises:
            RefusedError: it was revoked, or another manifest has this identifier.
        """

    def hide(self, release: str, *, now: datetime) -> None:
        """Take a published release off the list.

        Raises:
            InputError: it is not published.
        """

    def withdraw(self, release: str, manifest_digest: str, *, reason: str, now: datetime) -> None:
        """Show a release as revoked, for ever.

        Raises:
            InputError: no such release with this manifest.
        """


class SqlReleases:
    """Releases in the catalogue's database; what another process changes is seen at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept = Kept[StoredRelease](self.standing, lambda stored: 1 + len(stored.files), _MOST_FILES)

    def releases(self) -> Mapping[str, StoredRelease]:
        """Every release that the public may see."""
        order = (RELEASES.c.sequence.desc(), RELEASES.c.release)
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(RELEASES).where(RELEASES.c.state != "unpublished").order_by(*order))
            return {row["release"]: _stored(row) for row in rows.mappings()}

    def standing(self) -> int:
        """How often a release was changed, by any server on the database."""
        return self._database.number(_CHANGES)

    def listed(self, behind: tuple[int, str] | None, limit: int) -> list[dict[str, Any]]:
        """What is said of public releases, newest first; no list of files is read."""
        with self._database.reading() as connection:
            return newest(connection, behind, limit)

    def public(self, release: str) -> StoredRelease | None:
        """A release that the public may see; the last ones that were asked for are kept while nothing changes."""

        def seen() -> StoredRelease | None:
            stored = self.find(release)
            return None if stored is None or stored.state == "unpublished" else stored

        return self._kept.of(release, seen)

    def find(self, release: str) -> StoredRelease | None:
        """A release in any state, or None."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(RELEASES).where(RELEASES.c.release == release)).mappings().first()
        return None if row is None else _stored(row)

    def show(self, verified: Verified, stored: StoredRelease, *, now: datetime) -> None:
        """List a release that was verified."""
        require_verified(verified, stored)
        here = RELEASES.c.release == stored.release
        with self._database.writing() as connection:
            change(connection, _CHANGES)
            known = connection.execute(sa.select(RELEASES.c.state, RELEASES.c.manifest_digest).where(here)).first()
            if known is not None:
                require_showable(stored, known.state, known.manifest_digest)
                connection.execute(sa.delete(RELEASES).where(here))
            connection.execute(
                sa.insert(RELEASES).values(
                    release=stored.release,
                    sequence=stored.sequence,
                    manifest_digest=stored.manifest_digest,
                    bundle=stored.place,
                    state="published",
                    reason="",
                    published=now.isoformat(),
                    changed=now.isoformat(),
                    summary=json.dumps(stored.summary),
                    files=json.dumps([asdict(file) for file in stored.files.values()]),
                )
            )
            relist(connection, stored.release)

    def hide(self, release: str, *, now: datetime) -> None:
        """Take a published release off the list."""
        here = (RELEASES.c.release == release, RELEASES.c.state == "published")
        with self._database.writing() as connection:
            change(connection, _CHANGES)
            done = connection.execute(
                sa.update(RELEASES).where(*here).values(state="unpublished", changed=now.isoformat())
            )
            if done.rowcount != 1:
                raise not_published(release)
            relist(connection, release)

    def withdraw(self, release: str, manifest_digest: str, *, reason: str, now: datetime) -> None:
        """Show a release as revoked, for ever."""
        here = (RELEASES.c.release == release, RELEASES.c.manifest_digest == manifest_digest)
        with self._database.writing() as connection:
            change(connection, _CHANGES)
            done = connection.execute(
                sa.update(RELEASES).where(*here).values(state="revoked", reason=reason, changed=now.isoformat())
            )
            if done.rowcount != 1:
                raise no_such_manifest(release)
            relist(connection, release)

    def search(self, wanted: Wanted) -> Found:
        """One page of the public releases that somebody looks for."""
        with self._database.reading() as connection:
            return found(connection, wanted)

    def choices(self) -> Choices:
        """What can be looked for."""
        with self._database.reading() as connection:
            return choices(connection)


def require_verified(verified: Verified, stored: StoredRelease) -> None:
    """Check that what is to be shown is what was verified.

    Raises:
        RefusedError: it is another release or manifest.
    """
    if (verified.manifest.release, verified.manifest_digest) != (stored.release, stored.manifest_digest):
        raise RefusedError(f"{stored.release} is not the release that was verified", remedy="verify it, then show it")


def require_showable(stored: StoredRelease, state: str, manifest_digest: str) -> None:
    """Check a release that is to be shown against what is known under its identifier.

    Raises:
        RefusedError: it was revoked, or it is another release.
    """
    if state == "revoked":
        raise RefusedError(f"{stored.release} was revoked", remedy="make a new release under a new identifier")
    if manifest_digest != stored.manifest_digest:
        raise RefusedError(f"another release is called {stored.release}", remedy="choose another identifier")


def not_published(release: str) -> InputError:
    """Why a release cannot be hidden."""
    return InputError(f"{release} is not published", remedy="list what is: sonoshare releases")


def no_such_manifest(release: str) -> InputError:
    """Why a release cannot be revoked."""
    return InputError(f"no release {release} with this manifest", remedy="check the manifest digest")


def _stored(row: Mapping[Any, Any]) -> StoredRelease:
    return StoredRelease(
        release=row["release"],
        sequence=row["sequence"],
        state=row["state"],
        reason=row["reason"],
        place=row["bundle"],
        manifest_digest=row["manifest_digest"],
        files={entry["path"]: StoredFile(**entry) for entry in json.loads(row["files"])},
        summary=json.loads(row["summary"]),
    )
