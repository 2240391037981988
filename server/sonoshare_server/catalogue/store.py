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
from typing import Any, Literal, Protocol

from sonoshare_server.catalogue.database import Database
from sonoshare_shared.errors import InputError, RefusedError
from sonoshare_shared.protocol.release.verify import Verified

State = Literal["published", "unpublished", "revoked"]


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
        self._version: tuple[int, int] | None = None
        self._releases: dict[str, StoredRelease] = {}

    def releases(self) -> Mapping[str, StoredRelease]:
        """Every release that the public may see."""
        version = self._database.version
        if version != self._version:
            rows = self._database.rows(
                "SELECT * FROM releases WHERE state != 'unpublished' ORDER BY sequence DESC, release"
            )
            self._releases = {row["release"]: _stored(dict(row)) for row in rows}
            self._version = version
        return self._releases

    def find(self, release: str) -> StoredRelease | None:
        """A release in any state, or None."""
        rows = self._database.rows("SELECT * FROM releases WHERE release = ?", release)
        return _stored(dict(rows[0])) if rows else None

    def show(self, verified: Verified, stored: StoredRelease, *, now: datetime) -> None:
        """List a release that was verified."""
        require_verified(verified, stored)
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT state, manifest_digest FROM releases WHERE release = ?", (stored.release,)
            ).fetchone()
            if row is not None:
                require_showable(stored, row["state"], row["manifest_digest"])
            listed = [asdict(file) for file in stored.files.values()]
            values = (stored.release, stored.sequence, stored.manifest_digest, stored.place)
            connection.execute(
                "INSERT OR REPLACE INTO releases VALUES (?, ?, ?, ?, 'published', '', ?, ?, ?)",
                (*values, now.isoformat(), now.isoformat(), json.dumps({**stored.summary, "files": listed})),
            )

    def hide(self, release: str, *, now: datetime) -> None:
        """Take a published release off the list."""
        with self._database.writing() as connection:
            done = connection.execute(
                "UPDATE releases SET state = 'unpublished', changed = ? WHERE release = ? AND state = 'published'",
                (now.isoformat(), release),
            )
            if done.rowcount != 1:
                raise not_published(release)

    def withdraw(self, release: str, manifest_digest: str, *, reason: str, now: datetime) -> None:
        """Show a release as revoked, for ever."""
        with self._database.writing() as connection:
            done = connection.execute(
                "UPDATE releases SET state = 'revoked', reason = ?, changed = ?"
                " WHERE release = ? AND manifest_digest = ?",
                (reason, now.isoformat(), release, manifest_digest),
            )
            if done.rowcount != 1:
                raise no_such_manifest(release)


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


def _stored(row: dict[str, Any]) -> StoredRelease:
    summary = json.loads(row["summary"])
    return StoredRelease(
        release=row["release"],
        sequence=row["sequence"],
        state=row["state"],
        reason=row["reason"],
        place=row["bundle"],
        manifest_digest=row["manifest_digest"],
        files={entry["path"]: StoredFile(**entry) for entry in summary.pop("files")},
        summary=summary,
    )
