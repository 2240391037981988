"""Stand-alone audit: a folder of anybody's synthetic images against two lists of real ones.

Everything is read and checked before anything is charged: an empty folder, a picture that cannot be read, a patient
or a picture in both lists are errors, and cost nothing. The figures are the private ones of ``auditor.py``; without
the generator's model there is no loss attack, and the verdict says so.

Nominal numbers: given as ``cohort`` they keep the lengths of the two lists private; without, the lengths are taken to
be public (as they are for a published data set) and the notes say so.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_client.audit.auditor import AuditOutcome, audit_release
from sonoshare_client.audit.payment import Payment
from sonoshare_client.own_eyes.view import MOST_PAIRS, ShownPair, TrueView
from sonoshare_privacy.audits.copies import Nearest, patient_nearest
from sonoshare_privacy.audits.gate import Cohort
from sonoshare_privacy.audits.nearest import BytePictures, looks_for
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import AuditPlan
from sonoshare_shared.science.evaluation.labelled import read_picture
from sonoshare_shared.science.imaging import to_grid
from sonoshare_shared.science.labels import RELEASE_FILE, LabelTable, read_labels

GRID_PX: Final = 64
"""Side at which images are compared (the copy detector itself works at 32 px)."""

PICTURES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".dcm", ".dicom")
MASKS: Final = ("mask", "masks")


@dataclass(frozen=True, eq=False)
class ListedPatient:
    """A patient of a list.

    Args:
        name: identifier in the list; never leaves.
        images: float32 [k, S, S] in 0..1.
        paths: their files.
    """

    name: str
    images: NDArray[np.float32]
    paths: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class FolderAudit:
    """What an audit of a folder reads.

    Args:
        paths: files of the synthetic images.
        candidates: pictures [n, S, S], at 8 bits.
        trained: patients that may have been trained on.
        held_out: patients that were not.
    """

    paths: tuple[Path, ...]
    candidates: BytePictures
    trained: tuple[ListedPatient, ...]
    held_out: tuple[ListedPatient, ...]

    @property
    def cohort(self) -> Cohort:
        """The lengths of both lists."""
        return Cohort(len(self.trained), len(self.held_out))

    def run(
        self, plan: AuditPlan, cohort: Cohort | None, payment: Payment, epsilon_baseline: float = 0.0
    ) -> AuditOutcome:
        """Audit; see :func:`sonoshare_client.audit.auditor.audit_release`."""
        nominal = cohort or self.cohort
        return audit_release(
            self.candidates,
            self.trained,
            self.held_out,
            plan=plan,
            cohort=nominal,
            payment=payment,
            epsilon_baseline=epsilon_baseline,
        )

    def nearest(self) -> Iterator[tuple[str, Path, Path, float]]:
        """Each trained patient's most alike pair: name, picture, synthetic picture, score.

        NOT private. For the eyes of those who hold the patients' images already; never to be passed on.
        """
        found = self._nearest(self.trained)
        for patient, own, synthetic, score in zip(self.trained, found.own, found.candidate, found.scores, strict=True):
            yield patient.name, patient.paths[own], self.paths[synthetic], float(score)

    def true_view(self, title: str, threshold: float) -> TrueView:
        """What the hospital's own eyes may see. NOT private; see :mod:`sonoshare_client.own_eyes.view`."""
        held_out = self._nearest(self.held_out)
        rows = sorted(self.nearest(), key=lambda row: -row[3])
        pairs = tuple(
            ShownPair(score, name, synthetic.name, read_picture(own).pixels, read_picture(synthetic).pixels)
            for name, own, synthetic, score in rows[:MOST_PAIRS]
        )
        return TrueView(title, pairs, np.array([row[3] for row in rows]), held_out.scores, threshold)

    def _nearest(self, patients: Sequence[ListedPatient]) -> Nearest:
        looks = looks_for(len(self.candidates), len(self.trained) + len(self.held_out))
        return patient_nearest(self.candidates, [one.images for one in patients], looks=looks)


def read_folder_audit(folder: Path, train: Path, held_out: Path) -> FolderAudit:
    """Read everything a stand-alone audit needs.

    Args:
        folder: synthetic images: a release, or pictures at any depth (folders named masks are left out).
        train: labels.csv of the patients the generator may have been trained on.
        held_out: labels.csv of patients it was not.

    Raises:
        InputError: an empty folder, an unreadable picture, or a patient or picture in both lists.
    """
    paths = synthetic_paths(folder)
    trained, kept = read_labels(train), read_labels(held_out)
    if set(trained.patients) & set(kept.patients):
        raise InputError(
            "a patient is in both lists", remedy="every patient belongs to the train list or to the held-out list"
        )
    of_trained, of_kept = _patients(trained), _patients(kept)
    if _digests(of_trained) & _digests(of_kept):
        raise InputError("a picture is in both lists", remedy="one patient stands under two names: join them")
    return FolderAudit(paths, byte_pictures(paths), of_trained, of_kept)


def synthetic_paths(folder: Path) -> tuple[Path, ...]:
    """Files of the synthetic images in a folder, sorted.

    Raises:
        InputError: the folder does not exist or holds no picture.
    """
    if not folder.is_dir():
        raise InputError(f"{folder.name} is not a folder", remedy="name the folder that holds the synthetic images")
    if (folder / RELEASE_FILE).is_file():
        return tuple(row.image for row in read_labels(folder))
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURES
        and path.is_file()
        and not any(part.lower() in MASKS for part in path.relative_to(folder).parts[:-1])
    )
    if not found:
        raise InputError(f"{folder.name} holds no picture", remedy="name the folder that holds the synthetic images")
    return tuple(found)


def byte_pictures(paths: Sequence[Path]) -> BytePictures:
    """Pictures on the grid, rounded to 8 bits as a release's own are: 4 KB each.

    Raises:
        InputError: one of them cannot be read.
    """
    pixels = np.empty((len(paths), GRID_PX, GRID_PX), np.uint8)
    for place, path in enumerate(paths):
        pixels[place] = np.rint(255 * _on_grid(path))
    return BytePictures(pixels)


def _patients(table: LabelTable) -> tuple[ListedPatient, ...]:
    files: dict[str, list[Path]] = {}
    for row in table:
        files.setdefault(row.patient, []).append(row.image)
    return tuple(
        ListedPatient(name, np.stack([_on_grid(path) for path in paths]), tuple(paths)) for name, paths in files.items()
    )


def _on_grid(path: Path) -> NDArray[np.float32]:
    return to_grid(read_picture(path).pixels, GRID_PX)


def _digests(patients: Sequence[ListedPatient]) -> set[bytes]:
    """Digests of pictures on the grid; flat pictures say nothing about who they are of."""
    return {hashlib.sha256(image.tobytes()).digest() for one in patients for image in one.images if image.std() > 0}
