"""``metadata.csv``: what a release says of each image, which follows from the candidate alone.

Example: ``images/000003.png,benign,probe a,10.5,7.25,7.75,5.75,masks/000003.png,3,7,3,train,,0.61523,0.70312``.

Promises: the same candidate and the same released images give the same bytes, so that hospitals and researchers make
the table again and compare (`require_table`): nobody can say more of an image than the candidate does.

Splits: cases are taken class by class in the order in which they first occur in the *candidate*, ten at a time. Of ten
cases one is ``test`` and one is ``validation``, by the order of a hash of seed and case; the others are ``train``. Of
the last cases of a class, fewer than ten, it is the same from three on. All images of a case are in one split, and a
veto moves no image to another.

Not promised: splits of candidates of earlier days, which do not say the case; their table has no such columns.
"""

import csv
import io
import re
from collections.abc import Collection, Sequence
from typing import Final

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, CandidateImage

TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"
SPLITS: Final = (TRAIN, VALIDATION, TEST)

_TURN: Final = 10
"""Cases of one class, of which one is for tests and one for validation."""
_FEWEST: Final = 3
"""Cases that are worth splitting: one for each."""
_BIRADS: Final = re.compile(r"birads-([0-6][abc]?)\Z")


def columns_of(candidate: Candidate) -> tuple[str, ...]:
    """Columns of the table of a candidate or its release."""
    return layout.METADATA_COLUMNS + (layout.CASE_COLUMNS if candidate.has_cases else ())


def metadata_csv(candidate: Candidate, kept: Sequence[CandidateImage]) -> bytes:
    """The table of some images of a candidate; box columns are empty where there is no lesion."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns_of(candidate))
    splits = splits_of(candidate)
    for image in kept:
        box = [f"{value:g}" for value in image.box] if image.box is not None else [""] * 4
        path, mask = layout.image_path(image.index), layout.mask_path(image.index)
        row = [path, image.label, image.scanner, *box, mask, image.index, candidate.seed]
        if candidate.has_cases:
            spacing = ["", ""] if image.mm_per_pixel is None else [f"{value:.5f}" for value in image.mm_per_pixel]
            row += [image.case, splits[image.index], birads_of(image.label), *spacing]
        writer.writerow(row)
    return text.getvalue().encode()


def require_table(manifest: ReleaseManifest, candidate: Candidate, kept: Collection[int]) -> None:
    """Check that a manifest's table is that of its images; the table of a candidate without cases is not looked at.

    Args:
        manifest: of the release.
        candidate: that the release was made of.
        kept: indices of the released images.

    Raises:
        VerificationError: cause ``candidate``.
    """
    if not candidate.has_cases:
        return
    table = metadata_csv(candidate, [image for image in candidate.images if image.index in kept])
    said = {entry.path: entry.sha256 for entry in manifest.files}.get(layout.METADATA)
    if said != sha256_hex(table):
        raise VerificationError("candidate", f"{layout.METADATA} says something else than the candidate")


def splits_of(candidate: Candidate) -> dict[int, str]:
    """Split of every image of a candidate, by index; empty where the candidate says no cases."""
    cases: dict[str, dict[int, None]] = {}
    for image in candidate.images:
        if image.case is not None:
            cases.setdefault(image.label, {})[image.case] = None
    chosen = {
        (label, case): split
        for label, of_class in cases.items()
        for case, split in _splits(candidate.seed, label, list(of_class)).items()
    }
    return {image.index: chosen[image.label, image.case] for image in candidate.images if image.case is not None}


def birads_of(label: str) -> str:
    """BI-RADS assessment category that a class is named after, as ``4`` of ``birads-4``; empty for any other class."""
    found = _BIRADS.match(label)
    return "" if found is None else found[1]


def _splits(seed: int, label: str, cases: Sequence[int]) -> dict[int, str]:
    """Split of each case of one class."""
    splits = dict.fromkeys(cases, TRAIN)
    for first in range(0, len(cases), _TURN):
        turn = sorted(cases[first : first + _TURN], key=lambda case: sha256_hex(f"{seed}:{label}:{case}".encode()))
        if len(turn) >= _FEWEST:
            splits |= {turn[0]: TEST, turn[1]: VALIDATION}
    return splits
