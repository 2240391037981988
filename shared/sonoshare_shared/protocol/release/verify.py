"""Whether a release may be trusted, decided offline. These are all the rules; each breach has a stable cause.

The folder
  R1  Every path is safe, and nothing in the folder is a link or a device. ``path``
  R2  ``manifest.json`` is a manifest in its canonical form, with every file that a release must have. ``manifest``
  R3  Every file that the manifest lists is there, with its size and sha256; ``SHA256SUMS`` says the same.
      ``file-missing`` ``file-size`` ``file-digest``
  R4  There is no other file but the manifest, ``SHA256SUMS``, the log proof, and one signature a hospital; what an
      operating system left in the folder is named as such, whatever its name. ``file-extra``

Who may speak
  R5  The caller's roster is signed by its root key (and by the root key that the caller pinned, if any). The
      roster inside the release is signed by the same root, and is the same or an older version. A roster in which
      one key stands twice is refused: keys are compared as raw public keys, never by key id. ``roster``
  R6  The caller's roster has not expired now; the release's had not when the release was logged. ``roster-expired``

What was said
  R7  Every image and mask is one of the candidate that the manifest names; plan and candidate are the files whose
      digests the manifest names, and the plan's audit policy is the roster's. ``candidate`` ``plan``
      The candidate is one that the plan has, drawn with the seed of its place. ``candidate``
      Where the candidate says the case of each image, ``metadata.csv`` is the table that follows from it.
      ``candidate``
      Where the plan has a veto, the released images are the candidate minus what the signed votes drop. ``candidate``
  R8  Each attestation is an audit statement, under its payload and predicate type, signed by the hospital that its
      file name and its predicate name (with its key in the release's roster, or one that it had before by the same
      roster), about this candidate, study and audit policy, and about images of the manifest's adapter where it names
      one. ``payload-type`` ``envelope`` ``signature`` ``statement``
  R9  No hospital says FAIL or INCONCLUSIVE. ``verdict``
  R10 Every hospital that the manifest names as having taken part says PASS, and nobody else speaks; they are in the
      release's roster and in the plan, and no fewer than the plan's quorum. Where the manifest names nobody: every
      hospital of the release's roster says PASS, and every hospital of its study is in that roster. ``quorum``
  R11 The manifest promises no less epsilon and delta than any hospital has signed that it spent. ``privacy``
  R17 Where the plan pools noise, manifest and every statement name the number of honest hospitals that it rests on;
      where it does not, none names one. ``privacy``
  R16 ``privacy-report.json`` says what plan, manifest and statements say. ``privacy``
  R12 Each of these hospitals has signed the exact bytes of the manifest: with its key in the release's roster, or with
      one that followed it, as the caller's roster says. ``quorum`` ``payload-type`` ``envelope`` ``signature``
  R15 Where the plan has a calibration, the release holds the ballot that the plan names, and the votes on it of a
      quorum of these hospitals (of all, where the manifest names nobody), signed under this plan at its price.
      ``calibration`` ``envelope`` ``signature``

The log
  R13 The manifest is in the transparency log, under a head signed by the coordinator. ``log-proof``
  R14 A fresh log, when one is given, extends that log and holds no revocation of the release, wherever it stands.
      ``log-proof`` ``revoked``
  R18 Where a fresh log is given, a manifest that names who took part names whom the log says: all whose updates are in
      any round of the study, every round of which the log has closed. ``quorum`` ``log-proof``
  R19 Where a fresh log is given, plan, candidate and manifest are those that it names for the study and the release,
      and the images were drawn from the model that it closed the last round with. Entries that a log of earlier days
      does not hold are asked for only where the manifest names who took part. ``plan`` ``candidate`` ``log-proof``
  R20 Where a fresh log is given, no hospital signed the manifest with a key that it had passed on before the manifest
      was logged. ``signature``

A document that only a newer version of SonoShare understands is refused, whatever it is: ``version``

No network is used, and nothing of the release is run or decoded as an image. Not promised: that the images are
good, or (without a fresh log) that the release has not been revoked since.
"""

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sonoshare_shared.errors import IntegrityError, NewerVersionError, VerificationError
from sonoshare_shared.protocol.canonical import require_canonical
from sonoshare_shared.protocol.documents.plan import StudyPlan
from sonoshare_shared.protocol.documents.release import LogHead, ReleaseManifest
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE, Roster
from sonoshare_shared.protocol.envelope import MAX_ENVELOPE_BYTES, Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import (
    Candidate,
    require_candidate_minus,
    require_from_candidate,
    require_planned,
)
from sonoshare_shared.protocol.release.digests import digests_of
from sonoshare_shared.protocol.release.evidence import LogProof, LogView, require_logged, require_not_revoked
from sonoshare_shared.protocol.release.keys_of_then import require_keys_of_then
from sonoshare_shared.protocol.release.litter import litter_error
from sonoshare_shared.protocol.release.logged_steps import require_as_logged
from sonoshare_shared.protocol.release.paths import files_and_litter, read_regular, require_distinct_paths
from sonoshare_shared.protocol.release.report import require_report
from sonoshare_shared.protocol.release.statements import (
    require_assumption,
    require_manifest_signature,
    require_passes,
    require_promise,
    signers,
    statement_of,
)
from sonoshare_shared.protocol.release.table import require_table
from sonoshare_shared.protocol.release.veto import vetoed_images
from sonoshare_shared.protocol.release.votes import VotesEvidence, require_votes
from sonoshare_shared.protocol.signed import Signed

MAX_DOCUMENT_BYTES = 256 << 20


@dataclass(frozen=True)
class Verified:
    """A release that passed every rule.

    Attributes:
        manifest: what it is.
        manifest_digest: sha256 of ``manifest.json``.
        roster: of the consortium when it was made.
        hospitals: who passed and signed it.
        logged_at: time of the log head inside the release.
        revocations_known_until: time of the fresh log that was given, or None: revocations were not looked for.
        files: number of files whose digests were checked.
        size: bytes of these files.
    """

    manifest: ReleaseManifest
    manifest_digest: str
    roster: Roster
    hospitals: tuple[str, ...]
    logged_at: datetime
    revocations_known_until: datetime | None
    files: int
    size: int


def open_roster(envelope: Envelope, root: PublicKey | None = None) -> Roster:
    """Check a roster's signature by its root key, and that this is the pinned one if one is pinned.

    Args:
        envelope: the signed roster. Without ``root``, the caller vouches for where it came from.
        root: the consortium's root key, pinned out of band.

    Raises:
        VerificationError: cause ``roster``, or ``version``.
    """
    try:
        # The key is read from the payload that it must then verify: a roster speaks for its own root key only.
        said = Roster.from_bytes(base64.b64decode(envelope.payload, validate=True))
        key = PublicKey.from_hex(said.root_key)
        roster = Signed.opened(Roster, envelope, key, ROSTER_PAYLOAD_TYPE).document
    except NewerVersionError as error:
        raise VerificationError.because("roster", error) from error
    except (IntegrityError, binascii.Error) as error:
        raise VerificationError("roster", f"not a signed roster: {error}") from error
    if root is not None and root.hex != roster.root_key:
        raise VerificationError("roster", "the roster is signed by another root key than the pinned one")
    return roster


def verify_release(
    folder: Path,
    roster: Envelope,
    *,
    now: datetime,
    root: PublicKey | None = None,
    log: LogView | Envelope | None = None,
    revoked_too: bool = False,
) -> Verified:
    """Check a release folder against every rule of this module.

    Args:
        folder: the release.
        roster: signed roster that the caller trusts; the same version as the release's, or a newer one.
        now: the present, aware; only the caller's roster is compared with it.
        root: the consortium's root key, if pinned apart from the roster.
        log: a fresh log, to see revocations; or the signed head alone that the release was logged under.
        revoked_too: a revocation in the log is no reason to refuse, for whoever asks for what was taken back; the
            caller says so to the reader. Every other rule holds.

    Raises:
        VerificationError: the first rule that is broken; ``cause`` is the word given with the rule.
    """
    found, litter = files_and_litter(folder)
    manifest_bytes, manifest = _read_manifest(folder)
    digest = manifest.digest()
    _require_files(folder, found, manifest, digest)
    trusted = open_roster(roster, root)
    if trusted.expired(now):
        raise VerificationError(
            "roster-expired", f"the roster expired on {trusted.expires:%Y-%m-%d}", remedy="get the current roster"
        )
    governing = _governing_roster(folder, manifest, trusted)
    _require_no_extra(found, litter, manifest, governing)
    plan = _require_said(folder, manifest, governing)
    signed: dict[str, PublicKey] = {}
    for hospital in signers(manifest, governing):
        path = layout.signature_path(hospital.id)
        if path not in found:
            raise VerificationError("quorum", f"{hospital.id} has not signed the manifest")
        data = read_regular(folder, path, MAX_ENVELOPE_BYTES)
        signed[hospital.id] = require_manifest_signature(data, manifest_bytes, hospital, trusted)
    head, known_until = _require_log(
        folder, (manifest.release, digest), governing, trusted, log, revoked_too=revoked_too
    )
    if isinstance(log, LogView):
        require_as_logged(log, manifest, plan)
        require_keys_of_then(log, manifest, signed)
    return Verified(
        manifest=manifest,
        manifest_digest=digest,
        roster=governing,
        hospitals=tuple(hospital.id for hospital in signers(manifest, governing)),
        logged_at=head.time,
        revocations_known_until=known_until,
        files=len(manifest.files),
        size=sum(entry.size for entry in manifest.files),
    )


def _read_manifest(folder: Path) -> tuple[bytes, ReleaseManifest]:
    data = read_regular(folder, layout.MANIFEST, MAX_DOCUMENT_BYTES)
    try:
        manifest = ReleaseManifest.from_bytes(data)
        require_canonical(data, layout.MANIFEST)
    except IntegrityError as error:
        raise VerificationError.because("manifest", error) from error
    listed = {entry.path for entry in manifest.files}
    require_distinct_paths(listed)
    if missing := sorted(set(layout.REQUIRED) - listed):
        raise VerificationError("manifest", f"the manifest does not list {missing[0]}")
    return data, manifest


def _require_files(folder: Path, found: Mapping[str, int], manifest: ReleaseManifest, manifest_digest: str) -> None:
    for entry in manifest.files:
        size = found.get(entry.path)
        if size is None:
            raise VerificationError("file-missing", f"{entry.path} is missing", remedy="fetch the release again")
        if size != entry.size:
            raise VerificationError("file-size", f"{entry.path} has {size} bytes, not {entry.size}")
    listed = {entry.path: entry for entry in manifest.files}
    for path, digest in digests_of(folder, {path: entry.size for path, entry in listed.items()}):
        if digest != listed[path].sha256:
            raise VerificationError("file-digest", f"{path} is not the file that was signed")
    sums = {entry.path: entry.sha256 for entry in manifest.files} | {layout.MANIFEST: manifest_digest}
    if read_regular(folder, layout.SHA256SUMS, MAX_DOCUMENT_BYTES) != layout.sha256sums(sums):
        raise VerificationError("file-digest", f"{layout.SHA256SUMS} does not say what the manifest says")


def _governing_roster(folder: Path, manifest: ReleaseManifest, trusted: Roster) -> Roster:
    """The roster inside the release: whoever belonged to the consortium when it was made must have signed."""
    envelope = Envelope.from_bytes(read_regular(folder, layout.ROSTER, MAX_ENVELOPE_BYTES))
    governing = _known_roster(envelope, trusted)
    if governing.consortium != trusted.consortium:
        raise VerificationError("roster", "the release is of another consortium")
    if governing.version > trusted.version:
        raise VerificationError(
            "roster",
            f"the release rests on roster version {governing.version}, yours is {trusted.version}",
            remedy="get the current roster from the consortium",
        )
    if governing.version == trusted.version and governing != trusted:
        raise VerificationError("roster", f"the release's roster is not your version {trusted.version}")
    if governing.expired(manifest.created):
        raise VerificationError("roster-expired", "the release was made after its roster had expired")
    return governing


def _known_roster(envelope: Envelope, trusted: Roster) -> Roster:
    """A roster of the trusted one's root key, or one that a former root key signed and the trusted one names."""
    governing = open_roster(envelope)
    if governing.root_key == trusted.root_key or governing.digest() in (trusted.former_rosters or ()):
        return governing
    raise VerificationError("roster", "the release's roster is signed by another root key than yours")


def _require_no_extra(
    found: Mapping[str, int], litter: Collection[str], manifest: ReleaseManifest, roster: Roster
) -> None:
    listed = {entry.path for entry in manifest.files}
    attached = layout.attached_paths(tuple(hospital.id for hospital in signers(manifest, roster)))
    if both := sorted(listed.intersection(attached)):
        raise VerificationError("manifest", f"a manifest cannot list {both[0]}")
    if extra := sorted(found.keys() - listed - set(attached) - set(litter)):
        raise VerificationError(
            "file-extra", f"{extra[0]} is not part of the release", remedy="remove it, or fetch again"
        )
    if left := set(litter) - listed:
        raise litter_error(left)


def _require_said(folder: Path, manifest: ReleaseManifest, governing: Roster) -> StudyPlan:
    """Rules R7 to R11 and R15 to R17: what was audited, what the hospitals said of it, and what is said of that.

    Returns:
        The study's plan.
    """
    plan, candidate, released = _require_candidate_and_plan(folder, manifest, governing)
    attested = [entry.path for entry in manifest.files if entry.path.startswith(f"{layout.ATTESTATIONS}/")]
    envelopes = {path: read_regular(folder, path, MAX_ENVELOPE_BYTES) for path in attested}
    said = tuple(statement_of(path, data, manifest, governing) for path, data in envelopes.items())
    require_passes(said, manifest, plan, governing)
    require_promise(manifest, said, governing)
    require_assumption(manifest, said, plan)
    report = read_regular(folder, layout.PRIVACY_JSON, MAX_DOCUMENT_BYTES)
    require_report(report, candidate, plan, manifest.privacy, said, released=released)
    if plan.audit.veto is not None:
        vetoed = vetoed_images(candidate, plan.audit.veto, said)
        require_candidate_minus(manifest, candidate, manifest.candidate_digest, vetoed)
    if plan.calibration is not None:
        require_votes(_votes_in(folder, manifest), plan, governing, manifest.participants)
    return plan


def _require_candidate_and_plan(
    folder: Path, manifest: ReleaseManifest, roster: Roster
) -> tuple[StudyPlan, Candidate, int]:
    """Plan, candidate, and how many of its images are released."""
    plan_bytes = read_regular(folder, layout.PLAN, MAX_DOCUMENT_BYTES)
    candidate_bytes = read_regular(folder, layout.CANDIDATE, MAX_DOCUMENT_BYTES)
    try:
        plan = StudyPlan.from_bytes(plan_bytes)
    except IntegrityError as error:
        raise VerificationError.because("plan", error) from error
    same = (plan.study, plan.task.name) == (manifest.study, manifest.task)
    if plan.digest() != manifest.plan_digest or not same:
        raise VerificationError("plan", "plan.json is not the plan that the manifest names")
    if plan.digest_of("audit") != roster.audit_policy:
        raise VerificationError("plan", "the plan's audit policy is not the one that the roster names")
    try:
        candidate = Candidate.from_bytes(candidate_bytes)
    except IntegrityError as error:
        raise VerificationError.because("candidate", error) from error
    kept = require_from_candidate(manifest, candidate, candidate.digest())
    require_planned(candidate, plan)
    require_table(manifest, candidate, kept)
    return plan, candidate, len(kept)


def _votes_in(folder: Path, manifest: ReleaseManifest) -> VotesEvidence:
    """Ballot and votes that the manifest lists."""
    listed = {entry.path for entry in manifest.files}
    if layout.BALLOT not in listed:
        raise VerificationError("calibration", "the plan has a calibration, but the release holds no ballot")
    start, end = f"{layout.VOTES}/", layout.ENVELOPE_SUFFIX
    hospitals = [path.removeprefix(start).removesuffix(end) for path in listed if path.startswith(start)]
    if unexpected := sorted(hospital for hospital in hospitals if layout.votes_path(hospital) not in listed):
        raise VerificationError("calibration", f"votes under an unexpected name: {unexpected[0][:80]}")
    votes = {
        hospital: Envelope.from_bytes(read_regular(folder, layout.votes_path(hospital), MAX_ENVELOPE_BYTES))
        for hospital in hospitals
    }
    return VotesEvidence(read_regular(folder, layout.BALLOT, MAX_DOCUMENT_BYTES), votes)


def _require_log(
    folder: Path,
    entry: tuple[str, str],
    governing: Roster,
    trusted: Roster,
    log: LogView | Envelope | None,
    *,
    revoked_too: bool,
) -> tuple[LogHead, datetime | None]:
    data = read_regular(folder, layout.LOG_PROOF, MAX_DOCUMENT_BYTES)
    try:
        proof = LogProof.from_bytes(data)
        require_canonical(data, layout.LOG_PROOF)
    except IntegrityError as error:
        raise VerificationError.because("log-proof", error) from error
    head = require_logged(proof, *entry, PublicKey.from_hex(governing.coordinator_key))
    if governing.expired(head.time):
        raise VerificationError("roster-expired", "the release was logged after its roster had expired")
    if log is None:
        return head, None
    coordinator = PublicKey.from_hex(trusted.coordinator_key)
    return head, require_not_revoked(log, head, entry[1], coordinator, revoked_too=revoked_too)
