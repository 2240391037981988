"""Which releases are published. There is one way in: ``publish``, which verifies the folder first (promise P7).

    publish ──▶ published ──▶ unpublished ──▶ published …
                    │              │
                    └──▶ revoked ◀─┘          (for ever: a revoked manifest is never published again)

The catalogue serves a release folder where it lies and never writes to it. What it says of a release was read from
the verified folder when it was published.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast

from sonoshare_server.catalogue.database import Database
from sonoshare_shared.errors import InputError, IntegrityError, RefusedError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import Roster, StudyPlan
from sonoshare_shared.protocol.documents.reports import PrivacyReport, UtilityReport
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.evidence import (
    REVOCATION_PAYLOAD_TYPE,
    LogView,
    Revocation,
    revocation_entry,
)
from sonoshare_shared.protocol.release.verify import Verified, verify_release
from sonoshare_shared.protocol.translog import TransparencyLog

State = Literal["published", "unpublished", "revoked"]
COORDINATOR = "coordinator"


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
        state: published, unpublished or revoked.
        reason: why it was revoked.
        bundle: its folder.
        manifest_digest: sha256 of its manifest.
        summary: what API and pages say of it.
        files: every file, by path.
    """

    release: str
    state: State
    reason: str
    bundle: Path
    manifest_digest: str
    summary: dict[str, Any]
    files: dict[str, StoredFile]


class ReleaseStore:
    """The releases of one catalogue, by identifier; newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version: tuple[int, int] | None = None
        self._releases: dict[str, StoredRelease] = {}

    def releases(self) -> dict[str, StoredRelease]:
        """Every release that the public may see: the published and the revoked."""
        version = self._database.version
        if version != self._version:
            rows = self._database.rows(
                "SELECT * FROM releases WHERE state != 'unpublished' ORDER BY sequence DESC, release"
            )
            self._releases = {row["release"]: _stored(dict(row)) for row in rows}
            self._version = version
        return self._releases

    def get(self, release: str) -> StoredRelease | None:
        """One of them, or None."""
        return self.releases().get(release)

    def publish(
        self,
        bundle: Path,
        roster: Envelope,
        *,
        now: datetime,
        root: PublicKey | None = None,
        log: LogView | None = None,
    ) -> Verified:
        """Verify a sealed release folder and list it.

        Args:
            bundle: the folder; the catalogue serves it from there.
            roster: the consortium's signed roster.
            now: the present.
            root: pinned root key.
            log: fresh log; a revocation in it wins.

        Raises:
            VerificationError: the release does not verify; nothing is published.
            RefusedError: it was revoked, or another manifest has this identifier.
        """
        verified = verify_release(bundle, roster, now=now, root=root, log=log)
        manifest, time = verified.manifest, now.isoformat()
        if verified.roster.expired(now):
            raise VerificationError("roster-expired", "the release rests on a roster that has expired")
        summary = json.dumps(_summary(bundle.resolve(), verified, now))
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT state, manifest_digest FROM releases WHERE release = ?", (manifest.release,)
            ).fetchone()
            if row is not None and row["state"] == "revoked":
                raise RefusedError(
                    f"{manifest.release} was revoked", remedy="make a new release under a new identifier"
                )
            if row is not None and row["manifest_digest"] != verified.manifest_digest:
                raise RefusedError(f"another release is called {manifest.release}", remedy="choose another identifier")
            connection.execute(
                "INSERT OR REPLACE INTO releases VALUES (?, ?, ?, ?, 'published', '', ?, ?, ?)",
                (
                    manifest.release,
                    manifest.sequence,
                    verified.manifest_digest,
                    str(bundle.resolve()),
                    time,
                    time,
                    summary,
                ),
            )
        return verified

    def unpublish(self, release: str, *, now: datetime) -> None:
        """Take a published release off the list; it can be published again."""
        with self._database.writing() as connection:
            done = connection.execute(
                "UPDATE releases SET state = 'unpublished', changed = ? WHERE release = ? AND state = 'published'",
                (now.isoformat(), release),
            )
            if done.rowcount != 1:
                raise InputError(f"{release} is not published", remedy="list what is: sonoshare releases")

    def revoke(self, signed: Envelope, roster: Roster, log: TransparencyLog) -> Revocation:
        """Accept a signed revocation: into the log first, then on the page.

        Args:
            signed: envelope of a ``Revocation`` by a hospital of the roster, or by the coordinator.
            roster: who may revoke.
            log: the transparency log.

        Raises:
            VerificationError: not signed by the one that it names.
            InputError: no such release, or another manifest.
        """
        revocation = _verified_revocation(signed, roster)
        rows = self._database.rows("SELECT manifest_digest FROM releases WHERE release = ?", revocation.release)
        if not rows or rows[0]["manifest_digest"] != revocation.manifest_digest:
            raise InputError(f"no release {revocation.release} with this manifest", remedy="check the manifest digest")
        entry = revocation_entry(revocation, signed)
        if log.index_of(entry) is None:
            log.append(entry)
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE releases SET state = 'revoked', reason = ?, changed = ? WHERE release = ?",
                (f"{revocation.by}: {revocation.reason}", revocation.time.isoformat(), revocation.release),
            )
        return revocation


def _verified_revocation(signed: Envelope, roster: Roster) -> Revocation:
    keys = {hospital.id: hospital.key for hospital in roster.hospitals}
    keys[COORDINATOR] = PublicKey.from_hex(roster.coordinator_key)
    for name, key in keys.items():
        try:
            revocation = Revocation.from_bytes(signed.verify(key, REVOCATION_PAYLOAD_TYPE))
        except IntegrityError:
            continue
        if revocation.by == name:
            return revocation
    raise VerificationError("signature", "the revocation is not signed by the member that it names")


def _summary(bundle: Path, verified: Verified, now: datetime) -> dict[str, Any]:
    manifest = verified.manifest
    privacy = PrivacyReport.from_bytes((bundle / layout.PRIVACY_JSON).read_bytes())
    utility = UtilityReport.from_bytes((bundle / layout.UTILITY_JSON).read_bytes())
    plan = StudyPlan.from_bytes((bundle / layout.PLAN).read_bytes())
    verdicts = {said.id: (said.verdict, said.smallest_detectable_leak) for said in privacy.hospitals}
    listed = [{"path": e.path, "size": e.size, "sha256": e.sha256} for e in manifest.files]
    attached = layout.attached_paths(tuple(hospital.id for hospital in verified.roster.hospitals))
    for path in attached:
        data = (bundle / path).read_bytes()
        listed.append({"path": path, "size": len(data), "sha256": sha256_hex(data)})
    return {
        "release": manifest.release,
        "study": manifest.study,
        "task": manifest.task,
        "question": plan.task.question,
        "sequence": manifest.sequence,
        "created": manifest.created.isoformat(),
        "published": now.isoformat(),
        "images": sum(manifest.counts.values()),
        "counts": manifest.counts,
        "scanners": utility.scanners,
        "size_bytes": sum(int(cast("int", entry["size"])) for entry in listed),
        "manifest_digest": verified.manifest_digest,
        "privacy": {
            "epsilon": manifest.privacy.epsilon,
            "delta": manifest.privacy.delta,
            "neighbouring": manifest.privacy.neighbouring,
        },
        "hospitals": [
            {
                "id": budget.hospital,
                "epsilon": budget.epsilon,
                "delta": budget.delta,
                "verdict": verdicts[budget.hospital][0],
                "smallest_detectable_leak": verdicts[budget.hospital][1],
            }
            for budget in manifest.privacy.hospitals
        ],
        "utility": utility.model_dump(mode="json", include={"measured", "note", "figures"}),
        "licence": manifest.licence,
        "duo": list(manifest.duo),
        "files": sorted(listed, key=lambda entry: str(entry["path"])),
    }


def _stored(row: dict[str, Any]) -> StoredRelease:
    summary = json.loads(row["summary"])
    files = {entry["path"]: StoredFile(**entry) for entry in summary.pop("files")}
    return StoredRelease(
        release=row["release"],
        state=row["state"],
        reason=row["reason"],
        bundle=Path(row["bundle"]),
        manifest_digest=row["manifest_digest"],
        summary=summary | {"state": row["state"], "reason": row["reason"]},
        files=files,
    )
