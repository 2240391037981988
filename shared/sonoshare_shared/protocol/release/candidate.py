"""The candidate: exactly what the hospitals audit, before any image is vetoed.

A candidate lists every image and mask with its digest. Its own digest (sha256 of ``candidate.json``, which is its
canonical form) is the subject of every audit statement, so a verdict holds for these pictures and no others. A
release is the candidate minus the vetoed images: every hospital checks that before it signs the manifest, and
everybody can check that no image was added or changed.
"""

from collections.abc import Collection
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.documents.plan import MOST_CANDIDATES, StudyPlan
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.release import layout

Pixels = Annotated[float, Field(ge=0)]
Millimetres = Annotated[float, Field(gt=0, le=100)]

UNKNOWN_SCANNER: Final = "unknown"
"""Name of the scanner of an image that was drawn without one."""


class CandidateImage(Document):
    """One synthetic image.

    Attributes:
        index: position in the sampler's order; names the files.
        image: sha256 of the image file.
        mask: sha256 of the mask file.
        label: class name.
        scanner: scanner style, or ``unknown``.
        box: lesion box x, y, width, height in pixels; None where there is no lesion.
        cluster: public cluster of like images that vetoes name, numbered from 0; None where the plan has no veto.
        case: number of the simulated breast that the image was drawn from; images of one case belong together when a
            release is split. None in candidates of earlier days.
        mm_per_pixel: millimetres of a pixel across and in depth, as the breast was simulated; None where the image was
            not drawn over a simulated one.
    """

    index: Annotated[int, Field(ge=0, lt=1_000_000)]
    image: HexDigest
    mask: HexDigest
    label: str
    scanner: str
    box: tuple[Pixels, Pixels, Pixels, Pixels] | None
    cluster: Annotated[int, Field(ge=0, lt=1_000_000)] | None = None
    case: Annotated[int | None, Field(ge=0, lt=1_000_000)] = added()
    mm_per_pixel: tuple[Millimetres, Millimetres] | None = added()


class Candidate(Document):
    """A candidate release.

    Attributes:
        release: identifier the release will have.
        study: the study.
        plan_digest: digest of the study plan.
        model_digest: digest of the adapter the images were drawn from.
        seed: seed of the draws; an image depends on (seed, index) only.
        size: side of the square images in pixels.
        images: in the order of their indices.
        number: place among the candidates of the study in the transparency log, from 2; None for the first.
    """

    schema_: Literal["sonoshare/candidate/v1"] = Field(default="sonoshare/candidate/v1", alias="schema")
    release: Identifier
    study: Identifier
    plan_digest: HexDigest
    model_digest: HexDigest
    seed: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=1)]
    images: Annotated[tuple[CandidateImage, ...], Field(min_length=1)]
    number: Annotated[int | None, Field(ge=2, le=MOST_CANDIDATES)] = added()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        indices = [image.index for image in self.images]
        if any(later <= earlier for earlier, later in pairwise(indices)):
            raise ValueError("images must be listed in the order of their indices, each once")
        return self

    @model_validator(mode="after")
    def _all_have_cases_or_none(self) -> Self:
        if len({image.case is None for image in self.images}) > 1:
            raise ValueError("all images have a case, or none has")
        return self

    @property
    def place(self) -> int:
        """Place among the candidates of the study, from 1."""
        return self.number or 1

    @property
    def has_cases(self) -> bool:
        """Whether it says which images belong to one case; candidates of earlier days do not."""
        return self.images[0].case is not None

    @property
    def clusters(self) -> tuple[int, ...]:
        """Cluster of each image; empty where the plan has no veto."""
        return tuple(image.cluster for image in self.images if image.cluster is not None)

    def files(self) -> dict[str, str]:
        """Digest of every image and mask by its path."""
        images = {layout.image_path(image.index): image.image for image in self.images}
        return images | {layout.mask_path(image.index): image.mask for image in self.images}


def require_planned(candidate: Candidate, plan: StudyPlan) -> None:
    """Check that a candidate is one that its plan has, drawn with the seed of its place: nobody chose its images.

    Raises:
        VerificationError: cause ``candidate``.
    """
    if candidate.place > plan.planned_candidates:
        raise VerificationError(
            "candidate", f"the candidate is number {candidate.place} of {plan.planned_candidates} that the plan has"
        )
    if candidate.seed != plan.seed_of(candidate.place):
        raise VerificationError("candidate", "the candidate was drawn with another seed than the plan's")


def require_from_candidate(manifest: ReleaseManifest, candidate: Candidate, candidate_digest: str) -> set[int]:
    """Check that every image and mask of a manifest is one of the candidate's, and return the released indices.

    Raises:
        VerificationError: cause ``candidate``.
    """
    if candidate_digest != manifest.candidate_digest:
        raise VerificationError("candidate", "the candidate is not the one that the manifest names")
    same = (candidate.release, candidate.study, candidate.plan_digest, candidate.model_digest)
    if same != (manifest.release, manifest.study, manifest.plan_digest, manifest.model_digest):
        raise VerificationError("candidate", "candidate and manifest differ in release, study, plan or model")
    released = {e.path: e.sha256 for e in manifest.files if e.path.startswith((layout.IMAGES, layout.MASKS))}
    if stranger := sorted(released.items() - candidate.files().items()):
        raise VerificationError("candidate", f"{stranger[0][0]} was not in the candidate that the hospitals audited")
    kept = {image.index for image in candidate.images if layout.image_path(image.index) in released}
    if {layout.mask_path(index) for index in kept} | {layout.image_path(index) for index in kept} != released.keys():
        raise VerificationError("candidate", "an image of the release has no mask, or a mask has no image")
    _require_counts(manifest, candidate, kept)
    return kept


def require_candidate_minus(
    manifest: ReleaseManifest, candidate: Candidate, candidate_digest: str, vetoed: Collection[int]
) -> None:
    """What a hospital checks before it signs a manifest: the release is the candidate it audited minus the vetoes.

    Args:
        manifest: the final manifest.
        candidate: the candidate that the hospital audited.
        candidate_digest: digest of that candidate, as the hospital computed it.
        vetoed: indices of all vetoed images, of all hospitals.

    Raises:
        VerificationError: cause ``candidate``; ``manifest`` where it lists a file that no release has.
    """
    _require_known_files(manifest)
    kept = require_from_candidate(manifest, candidate, candidate_digest)
    if kept != {image.index for image in candidate.images} - set(vetoed):
        raise VerificationError("candidate", "the release is not the audited candidate minus the vetoed images")


def _require_known_files(manifest: ReleaseManifest) -> None:
    """A signature under pictures is none under anything else: a model's weights have a verdict of their own."""
    known = {*layout.REQUIRED, layout.BALLOT}
    folders = (layout.IMAGES, layout.MASKS)
    signed = (layout.ATTESTATIONS, layout.VOTES)
    for entry in manifest.files:
        folder, _, name = entry.path.rpartition("/")
        if not (
            entry.path in known
            or (folder in folders and name.endswith(".png"))
            or (folder in signed and name.endswith(layout.ENVELOPE_SUFFIX))
        ):
            raise VerificationError("manifest", f"{entry.path[:80]} is no file of a release")


def _require_counts(manifest: ReleaseManifest, candidate: Candidate, kept: set[int]) -> None:
    counts = dict.fromkeys(manifest.counts, 0)
    for image in candidate.images:
        if image.index in kept:
            counts[image.label] = counts.get(image.label, 0) + 1
    if counts != manifest.counts or not kept:
        raise VerificationError("candidate", "the numbers of images by class are not those of the candidate")
