"""The pictures of a verified release, one after another, each held against its signed digest once more.

Promises: only pictures that the release's candidate lists, in the order of their indices, with the very bytes that the
hospitals audited; one picture in memory at a time. A file that changed since the release was verified is refused.
Not promised: that the release was verified; the caller does that first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import ReleaseManifest, StudyPlan
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, CandidateImage
from sonoshare_shared.protocol.release.paths import read_regular
from sonoshare_shared.protocol.release.table import TRAIN, splits_of

MAX_DOCUMENT_BYTES: Final = 256 << 20
MAX_PICTURE_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Picture:
    """One picture of a release.

    Attributes:
        about: what the candidate says of it.
        split: train, validation or test; train where the release has no splits.
        image: its PNG file.
        mask: PNG file of the lesion mask.
    """

    about: CandidateImage
    split: str
    image: bytes
    mask: bytes


@dataclass(frozen=True)
class Source:
    """A verified release folder.

    Attributes:
        folder: where it lies.
        manifest: of the release.
        candidate: that it was made of.
        plan: of its study.
        kept: released images, in the order of their indices.
        splits: split of each image, by index; empty where the release has none.
    """

    folder: Path
    manifest: ReleaseManifest
    candidate: Candidate
    plan: StudyPlan
    kept: tuple[CandidateImage, ...]
    splits: Mapping[int, str]

    def split_of(self, image: CandidateImage) -> str:
        """Split of an image; train where the release has no splits."""
        return self.splits.get(image.index, TRAIN)

    def pictures(self, split: str | None = None) -> Iterator[Picture]:
        """Every picture, or those of one split.

        Raises:
            VerificationError: cause ``file-digest`` or ``file-missing``, for a file that changed meanwhile.
        """
        for image in self.kept:
            if split in (None, self.split_of(image)):
                data = self._read(layout.image_path(image.index), image.image)
                yield Picture(image, self.split_of(image), data, self._read(layout.mask_path(image.index), image.mask))

    def _read(self, path: str, digest: str) -> bytes:
        data = read_regular(self.folder, path, MAX_PICTURE_BYTES)
        if sha256_hex(data) != digest:
            raise VerificationError("file-digest", f"{path} changed while it was read", remedy="fetch again")
        return data


def source_in(folder: Path, manifest: ReleaseManifest) -> Source:
    """The release in a folder that was verified and has this manifest.

    Raises:
        VerificationError: cause ``candidate`` or ``plan``, for a file that changed meanwhile.
    """
    candidate = Candidate.from_bytes(read_regular(folder, layout.CANDIDATE, MAX_DOCUMENT_BYTES))
    plan = StudyPlan.from_bytes(read_regular(folder, layout.PLAN, MAX_DOCUMENT_BYTES))
    if candidate.digest() != manifest.candidate_digest:
        raise VerificationError("candidate", "candidate.json changed while it was read", remedy="fetch again")
    if plan.digest() != manifest.plan_digest:
        raise VerificationError("plan", "plan.json changed while it was read", remedy="fetch again")
    released = {entry.path for entry in manifest.files}
    kept = tuple(image for image in candidate.images if layout.image_path(image.index) in released)
    return Source(folder, manifest, candidate, plan, kept, splits_of(candidate))
