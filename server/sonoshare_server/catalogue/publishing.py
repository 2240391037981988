"""Publishing and revoking. There is one way in: ``publish``, which verifies the folder first (promise P7).

What the catalogue says of a release was read from the verified folder when it was published. A revocation stands in
the transparency log before the catalogue shows it.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

from sonoshare_server.catalogue.blobs import Blobs
from sonoshare_server.catalogue.gallery import shown_on_sheet
from sonoshare_server.catalogue.store import ReleaseStore, StoredFile, StoredRelease, no_such_manifest
from sonoshare_shared.errors import IntegrityError, NewerVersionError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import Roster, StudyPlan
from sonoshare_shared.protocol.documents.reports import PrivacyReport, UtilityReport
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.evidence import (
    REVOCATION_PAYLOAD_TYPE,
    LogView,
    Revocation,
    revocation_entry,
)
from sonoshare_shared.protocol.release.verify import Verified, verify_release
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.protocol.translog import TransparencyLog

COORDINATOR = "coordinator"


def publish(
    store: ReleaseStore,
    blobs: Blobs,
    bundle: Path,
    roster: Envelope,
    *,
    now: datetime,
    root: PublicKey | None = None,
    log: LogView | None = None,
) -> Verified:
    """Verify a sealed release folder and list it.

    Args:
        store: releases of the catalogue.
        blobs: files of the catalogue.
        bundle: the folder.
        roster: the consortium's signed roster.
        now: the present.
        root: pinned root key.
        log: fresh log; a revocation in it wins.

    Raises:
        VerificationError: the release does not verify; nothing is published.
        RefusedError: it was revoked, or another manifest has this identifier.
    """
    verified = verify_release(bundle, roster, now=now, root=root, log=log)
    if verified.roster.expired(now):
        raise VerificationError("roster-expired", "the release rests on a roster that has expired")
    files = _files(bundle, verified)
    manifest = verified.manifest
    stored = StoredRelease(
        release=manifest.release,
        sequence=manifest.sequence,
        state="published",
        reason="",
        place=blobs.keep(bundle, files),
        manifest_digest=verified.manifest_digest,
        summary=_summary(bundle, verified, files, now),
        files=files,
    )
    store.show(verified, stored, now=now)
    return verified


def revoke(store: ReleaseStore, signed: Envelope, roster: Roster, log: TransparencyLog) -> Revocation:
    """Accept a signed revocation: into the log first, then on the page.

    Args:
        store: releases of the catalogue.
        signed: envelope of a ``Revocation`` by a hospital of the roster, or by the coordinator.
        roster: who may revoke.
        log: the transparency log.

    Raises:
        VerificationError: not signed by the one that it names.
        InputError: no such release, or another manifest.
    """
    revocation = _verified_revocation(signed, roster)
    stored = store.find(revocation.release)
    if stored is None or stored.manifest_digest != revocation.manifest_digest:
        raise no_such_manifest(revocation.release)
    entry = revocation_entry(revocation, signed)
    if log.index_of(entry) is None:
        log.append(entry)
    reason = f"{revocation.by}: {revocation.reason}"
    store.withdraw(revocation.release, revocation.manifest_digest, reason=reason, now=revocation.time)
    return revocation


def _verified_revocation(signed: Envelope, roster: Roster) -> Revocation:
    keys = {hospital.id: hospital.key for hospital in roster.hospitals}
    keys[COORDINATOR] = PublicKey.from_hex(roster.coordinator_key)
    for name, key in keys.items():
        try:
            revocation = Signed.opened(Revocation, signed, key, REVOCATION_PAYLOAD_TYPE).document
        except NewerVersionError:
            raise
        except IntegrityError:
            continue
        if revocation.by == name:
            return revocation
    raise VerificationError("signature", "the revocation is not signed by the member that it names")


def _files(bundle: Path, verified: Verified) -> dict[str, StoredFile]:
    """Every file of a release, by path: what the manifest lists, and what is made after it."""
    files = [StoredFile(entry.path, entry.size, entry.sha256) for entry in verified.manifest.files]
    for path in layout.attached_paths(verified.hospitals):
        data = (bundle / path).read_bytes()
        files.append(StoredFile(path, len(data), sha256_hex(data)))
    return {file.path: file for file in sorted(files, key=lambda file: file.path)}


def _summary(bundle: Path, verified: Verified, files: dict[str, StoredFile], now: datetime) -> dict[str, Any]:
    manifest = verified.manifest
    privacy = PrivacyReport.from_bytes((bundle / layout.PRIVACY_JSON).read_bytes())
    utility = UtilityReport.from_bytes((bundle / layout.UTILITY_JSON).read_bytes())
    plan = StudyPlan.from_bytes((bundle / layout.PLAN).read_bytes())
    size = Candidate.from_bytes((bundle / layout.CANDIDATE).read_bytes()).size
    verdicts = {said.id: (said.verdict, said.smallest_detectable_leak) for said in privacy.hospitals}
    return {
        "release": manifest.release,
        "study": manifest.study,
        "task": manifest.task,
        "question": plan.task.question,
        "sequence": manifest.sequence,
        "created": manifest.created.isoformat(),
        "published": now.isoformat(),
        "images": sum(manifest.counts.values()),
        "image_size": size,
        "counts": manifest.counts,
        "gallery": shown_on_sheet(
            (bundle / layout.CONTACT_SHEET).read_bytes(), size, plan.task.classes, manifest.counts
        ),
        "scanners": utility.scanners,
        "size_bytes": sum(file.size for file in files.values()),
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
    }
