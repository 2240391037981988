"""Build a release in three steps, each of which appears whole or not at all.

1. ``build_candidate``: images, masks, their table, and ``candidate.json``, whose digest is what hospitals audit.
2. ``finalise``: the candidate minus the vetoed images, with metadata, reports and the hospitals' statements, and the
   manifest that the hospitals then sign. Refused unless every hospital that took part says PASS.
3. ``seal``: signatures and log proof are added and the folder gets its final name.

The same inputs give the same bytes and so the same manifest digest: nothing here reads a clock or draws a number.
Publication is not here: the catalogue verifies the sealed folder by itself (``catalogue.publish``).
"""

import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.audits.veto import Clusters
from sonoshare_server.release import describe, png, reports
from sonoshare_server.release.contact_sheet import contact_sheet
from sonoshare_server.release.croissant import croissant
from sonoshare_server.release.describe import Description
from sonoshare_server.release.facts import Facts
from sonoshare_server.release.sheet_places import COLUMNS
from sonoshare_shared.durable import appearing, put, put_again
from sonoshare_shared.errors import InputError, IntegrityError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_file, sha256_hex
from sonoshare_shared.protocol.documents import (
    AuditStatement,
    FileEntry,
    HospitalBudget,
    PrivacyStatement,
    ReleaseManifest,
    Roster,
    StudyPlan,
)
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import UNKNOWN_SCANNER, Candidate, CandidateImage
from sonoshare_shared.protocol.release.evidence import LogProof
from sonoshare_shared.protocol.release.paths import files_in
from sonoshare_shared.protocol.release.statements import (
    require_manifest_signature,
    require_passes,
    signers,
    statement_of,
)
from sonoshare_shared.protocol.release.table import metadata_csv
from sonoshare_shared.protocol.release.verify import open_roster
from sonoshare_shared.protocol.release.votes import VotesEvidence
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.pictures.plain import plain_grey


@dataclass(frozen=True)
class Samples:
    """A batch of sampled images.

    Attributes:
        images: float [n, S, S] in 0..1, or uint8 [n, S, S].
        masks: bool [n, S, S].
        labels: int [n], position in the task's classes.
        scanners: int [n], position in the task's scanners; -1 is unknown.
        boxes: float [n, 4], x, y, width, height as fractions of the image; NaN or no width: no lesion.
        cases: int [n], number of the simulated breast that each was drawn from; those of one breast share it.
        mm_per_pixel: float [n, 2], millimetres of a pixel across and in depth; NaN is unknown.
        start_index: index of the first image; the others follow.
    """

    images: NDArray[np.floating] | NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: NDArray[np.integer]
    scanners: NDArray[np.integer]
    boxes: NDArray[np.floating]
    cases: NDArray[np.integer]
    mm_per_pixel: NDArray[np.floating]
    start_index: int = 0


def build_candidate(
    folder: Path, batches: Iterable[Samples], *, release: str, plan: StudyPlan, model_digest: str, number: int = 1
) -> Candidate:
    """Write a candidate: ``images/``, ``masks/``, ``metadata.csv``, ``candidate.json``; one batch at a time in memory.

    Args:
        folder: where; must be absent or empty.
        batches: sampled images in the order of their indices.
        release: identifier of the release it would become.
        plan: the study plan; gives names of classes and scanners, and the seed.
        model_digest: digest of the adapter they were drawn from.
        number: place among the candidates of the study, from 1.

    Returns:
        The candidate; its ``digest()`` is what audit statements are about.

    Raises:
        InputError: no images, images of different sizes, or a folder that is not empty.
    """
    entries: list[CandidateImage] = []
    sizes: set[int] = set()
    clusters = None if plan.audit.veto is None else Clusters()
    with appearing(folder) as building:
        for batch in batches:
            pixels = to_uint8(batch.images)
            sizes.add(pixels.shape[-1])
            written = [_write_sample(building, batch, pixels[row], row, plan) for row in range(len(pixels))]
            if clusters is not None:
                # Clustered as they will be read: from the 8-bit pixels of the files.
                places = clusters.add(pixels.astype(np.float32) / np.float32(255))
                written = [
                    image.model_copy(update={"cluster": place}) for image, place in zip(written, places, strict=True)
                ]
            entries.extend(written)
        if len(sizes) != 1:
            raise InputError("a candidate needs images, all of one size", remedy="check the sampler")
        candidate = Candidate(
            release=release,
            study=plan.study,
            plan_digest=plan.digest(),
            model_digest=model_digest,
            seed=plan.seed_of(number),
            size=sizes.pop(),
            images=tuple(entries),
            number=number if number > 1 else None,
        )
        # Opens as a release does, so that it can be measured before it becomes one.
        put(building, layout.METADATA, metadata_csv(candidate, candidate.images))
        put(building, layout.CANDIDATE, candidate.canonical())
    return candidate


def finalise(
    candidate_folder: Path,
    draft: Path,
    *,
    plan: StudyPlan,
    roster: Envelope,
    statements: Mapping[str, Envelope],
    facts: Facts,
    vetoed: Collection[int] = (),
    votes: VotesEvidence | None = None,
    participants: tuple[str, ...] | None = None,
) -> ReleaseManifest:
    """Make the release folder without signatures: what hospitals are asked to sign.

    Args:
        candidate_folder: what ``build_candidate`` wrote.
        draft: where the unsigned release goes; absent or empty.
        plan: the study plan.
        roster: signed roster of the consortium.
        statements: audit statements by hospital id.
        facts: what the builder knows besides.
        vetoed: indices of images to leave out.
        votes: what the phantoms of the release were drawn by, where the plan has a calibration.
        participants: who took part in the study's rounds; None where the log does not say.

    Returns:
        The manifest, as it stands in ``draft/manifest.json``.

    Raises:
        VerificationError: a statement is missing, not valid, or does not say PASS; cause as in ``release.verify``.
        InputError: nothing is left after the vetoes.
    """
    members = open_roster(roster)
    candidate_bytes = (candidate_folder / layout.CANDIDATE).read_bytes()
    candidate = Candidate.from_bytes(candidate_bytes)
    kept = [image for image in candidate.images if image.index not in set(vetoed)]
    if not kept:
        raise InputError("every image was vetoed", remedy="sample a new candidate")
    said = {hospital: _said(hospital, envelope, members) for hospital, envelope in statements.items()}
    with appearing(draft) as building:
        for image in kept:
            _copy_sample(candidate_folder, building, image)
        for hospital, envelope in statements.items():
            put(building, layout.attestation_path(hospital), envelope.to_bytes())
        for path, data in ({} if votes is None else votes.files()).items():
            put(building, path, data)
        put(building, layout.CANDIDATE, candidate_bytes)
        put(building, layout.PLAN, plan.canonical())
        put(building, layout.ROSTER, roster.to_bytes())
        put(building, layout.CONTACT_SHEET, png.encode(contact_sheet(_sheet_rows(building, kept, plan))))
        description = Description(
            candidate=candidate, kept=tuple(kept), plan=plan, privacy=_promise(said, plan), facts=facts
        )
        for path, data in _described(description, tuple(said.values())).items():
            put(building, path, data)
        manifest = _manifest(building, description, participants)
        _require_statements(statements, manifest, plan, members)
        put(building, layout.MANIFEST, manifest.canonical())
        sums = {entry.path: entry.sha256 for entry in manifest.files} | {layout.MANIFEST: manifest.digest()}
        put(building, layout.SHA256SUMS, layout.sha256sums(sums))
    return manifest


def seal(
    draft: Path, destination: Path, *, signatures: Mapping[str, Envelope], log_proof: LogProof, roster: Roster
) -> None:
    """Add the hospitals' signatures and the log proof to a draft, and move it to its final place.

    Args:
        draft: what ``finalise`` wrote; it is gone afterwards.
        destination: the release folder, on the same file system; absent or empty.
        signatures: signatures over the manifest by hospital id.
        log_proof: inclusion of the manifest in the log.
        roster: of the consortium now; the draft's may be older.

    Raises:
        VerificationError: a signature is missing or not valid.
    """
    manifest = (draft / layout.MANIFEST).read_bytes()
    members = open_roster(Envelope.load(draft / layout.ROSTER))
    named = signers(ReleaseManifest.from_bytes(manifest), members)
    for hospital in named:
        if hospital.id not in signatures:
            raise VerificationError("quorum", f"{hospital.id} has not signed the manifest")
        require_manifest_signature(signatures[hospital.id].to_bytes(), manifest, hospital, roster)
    with appearing(destination, durable=True) as building:
        for path in files_in(draft):
            put_again(building, path, draft / path)
        for hospital in named:
            put(building, layout.signature_path(hospital.id), signatures[hospital.id].to_bytes())
        put(building, layout.LOG_PROOF, log_proof.canonical())
    shutil.rmtree(draft)


def to_uint8(images: NDArray[np.floating] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images as a release has them.

    Raises:
        InputError: an image holds NaN or infinity.
    """
    if images.dtype == np.uint8:
        return np.asarray(images, np.uint8)
    if not np.isfinite(images).all():
        raise InputError("a sampled image holds NaN or infinity", remedy="check the model before sampling")
    return eight_bits(images)


def _write_sample(
    building: Path, batch: Samples, pixels: NDArray[np.uint8], row: int, plan: StudyPlan
) -> CandidateImage:
    index = batch.start_index + row
    image, mask = png.encode(pixels), png.encode(batch.masks[row].astype(np.uint8) * np.uint8(255))
    put(building, layout.image_path(index), image)
    put(building, layout.mask_path(index), mask)
    scanner, box = int(batch.scanners[row]), batch.boxes[row].astype(np.float64) * pixels.shape[-1]
    spacing = batch.mm_per_pixel[row]
    return CandidateImage(
        index=index,
        image=sha256_hex(image),
        mask=sha256_hex(mask),
        label=plan.task.classes[int(batch.labels[row])],
        scanner=plan.task.scanners[scanner] if scanner >= 0 else UNKNOWN_SCANNER,
        box=_pixels(box) if np.isfinite(box).all() and box[2] > 0 else None,
        case=int(batch.cases[row]),
        mm_per_pixel=(_millimetres(spacing[0]), _millimetres(spacing[1])) if np.isfinite(spacing).all() else None,
    )


def _pixels(box: NDArray[np.float64]) -> tuple[float, float, float, float]:
    x, y, w, h = (max(0.0, round(float(value), 2)) for value in box)
    return x, y, w, h


def _millimetres(value: float) -> float:
    return round(float(value), 5)


def _copy_sample(source: Path, building: Path, image: CandidateImage) -> None:
    for path, digest in ((layout.image_path(image.index), image.image), (layout.mask_path(image.index), image.mask)):
        data = (source / path).read_bytes()
        if sha256_hex(data) != digest:
            raise IntegrityError(f"{path} changed since the candidate was made", remedy="sample the candidate again")
        put(building, path, data)


def _described(description: Description, said: tuple[AuditStatement, ...]) -> dict[str, bytes]:
    metadata = metadata_csv(description.candidate, description.kept)
    return {
        layout.METADATA: metadata,
        layout.CROISSANT: croissant(description, sha256_hex(metadata)),
        layout.DATASHEET: reports.datasheet(description, said),
        layout.LICENCE: describe.licence_text(description.facts),
        **reports.privacy_report(description, said),
        **reports.utility_report(description),
    }


def _said(hospital: str, envelope: Envelope, roster: Roster) -> AuditStatement:
    entry = roster.hospital(hospital)
    if entry is None:
        raise VerificationError("statement", f"{hospital} is not in the roster")
    key = envelope.signer_among(roster.keys_of(entry)) or entry.key
    return Signed.opened(AuditStatement, envelope, key, STATEMENT_PAYLOAD_TYPE).document


def _promise(said: Mapping[str, AuditStatement], plan: StudyPlan) -> PrivacyStatement:
    """The largest epsilon and delta that any hospital signed: patients of one hospital only meet that hospital's."""
    budgets = tuple(
        HospitalBudget(
            hospital=hospital,
            epsilon=said[hospital].predicate.spent_epsilon,
            delta=said[hospital].predicate.spent_delta,
        )
        for hospital in sorted(said)
    )
    return PrivacyStatement(
        epsilon=max((budget.epsilon for budget in budgets), default=0.0),
        delta=max((budget.delta for budget in budgets), default=0.0),
        hospitals=budgets,
        honest=plan.honest,
    )


def _sheet_rows(
    building: Path, kept: list[CandidateImage], plan: StudyPlan
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    rows = []
    for label in plan.task.classes:
        shown = [image.index for image in kept if image.label == label][:COLUMNS]
        if shown:
            images = [plain_grey((building / layout.image_path(index)).read_bytes()) for index in shown]
            masks = [plain_grey((building / layout.mask_path(index)).read_bytes()) for index in shown]
            rows.append((np.stack(images), np.stack(masks)))
    return rows


def _manifest(building: Path, description: Description, participants: tuple[str, ...] | None) -> ReleaseManifest:
    candidate, facts = description.candidate, description.facts
    return ReleaseManifest(
        release=candidate.release,
        study=candidate.study,
        task=description.plan.task.name,
        sequence=facts.sequence,
        created=facts.created,
        files=tuple(
            FileEntry(path=path, sha256=sha256_file(building / path), size=size)
            for path, size in sorted(files_in(building).items())
        ),
        counts=description.counts,
        candidate_digest=candidate.digest(),
        model_digest=candidate.model_digest,
        plan_digest=candidate.plan_digest,
        privacy=description.privacy,
        licence=facts.licence,
        duo=facts.duo,
        participants=participants,
    )


def _require_statements(
    statements: Mapping[str, Envelope], manifest: ReleaseManifest, plan: StudyPlan, roster: Roster
) -> None:
    said = tuple(
        statement_of(layout.attestation_path(hospital), envelope.to_bytes(), manifest, roster)
        for hospital, envelope in statements.items()
    )
    require_passes(said, manifest, plan, roster)
