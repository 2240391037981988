"""Stand-alone audit: a folder of anybody's synthetic images against two lists of real ones.

Everything is read and checked before anything is charged: an empty folder, a picture that cannot be read, a patient
or a picture in both lists are errors, and cost nothing. The figures are the private ones of ``auditor.py``; without
the generator's model there is no loss attack, and the verdict says so.

Nominal numbers: given as ``cohort`` they keep the lengths of the two lists private; without, the lengths are taken to
be public (as they are for a published data set) and the notes say so.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_client.audit.auditor import Audited, AuditOutcome, audit_release
from sonoshare_client.audit.payment import Payment
from sonoshare_privacy.audits.copies import Nearest, patient_nearest
from sonoshare_privacy.audits.gate import Cohort
from sonoshare_privacy.audits.nearest import BytePictures, looks_for
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import AuditPlan
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.imaging import to_grid
from sonoshare_shared.science.label_layouts import RELEASE_FILE
from sonoshare_shared.science.label_table import LabelRow, LabelTable
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.pictures.bounds import DEFAULT_BOUNDS, SYNTHETIC_BOUNDS, Bounds
from sonoshare_shared.science.pictures.reading import START_BYTES, SUFFIXES, is_picture, read_file

GRID_PX: Final = 64
"""Side at which images are compared (the copy detector itself works at 32 px)."""

MASKS: Final = ("mask", "masks")
_UNREAD: Final = (".bmp", ".gif", ".jp2", ".jpe", ".jfif", ".npy", ".pgm", ".tif", ".tiff", ".webp")
"""Pictures of other formats: an audit that passed over them would say nothing about them."""


@dataclass(frozen=True)
class PictureFile:
    """A picture and what says which part of it is kept; read as a hospital's intake reads it.

    Attributes:
        image: its path.
        masks: paths of its masks.
        box: lesion box in pixels, or None.
        bounds: what the file may be.
        frame: of a clip, from 1, or None.
        region: where the picture is, in pixels, for a file that does not say it.
    """

    image: Path
    masks: tuple[Path, ...] = ()
    box: Box | None = None
    bounds: Bounds = DEFAULT_BOUNDS
    frame: int | None = None
    region: Box | None = None

    @classmethod
    def of(cls, row: LabelRow, bounds: Bounds = DEFAULT_BOUNDS) -> "PictureFile":
        """The picture of a row of labels."""
        return cls(row.image, row.masks, row.box, bounds, row.frame, row.region)

    def pixels(self) -> NDArray[np.uint8]:
        """What is kept, uint8 [H, W].

        Raises:
            InputError: it cannot be read.
        """
        return read_file(
            self.image, self.masks, self.box, frame=self.frame, region=self.region, bounds=self.bounds
        ).pixels

    def on_grid(self) -> NDArray[np.float32]:
        """The same on the grid of audits, float32 [S, S] in 0..1."""
        return to_grid(self.pixels(), GRID_PX)


@dataclass(frozen=True, eq=False)
class ListedPatient:
    """A patient of a list.

    Args:
        name: identifier in the list; never leaves.
        images: float32 [k, S, S] in 0..1.
        files: where they were read from.
    """

    name: str
    images: NDArray[np.float32]
    files: tuple[PictureFile, ...]


@dataclass(frozen=True, eq=False)
class FolderAudit:
    """What an audit of a folder reads.

    Args:
        files: of the synthetic images.
        candidates: pictures [n, S, S], at 8 bits.
        trained: patients that may have been trained on.
        held_out: patients that were not.
        device: where they are compared.
    """

    files: tuple[PictureFile, ...]
    candidates: BytePictures
    trained: tuple[ListedPatient, ...]
    held_out: tuple[ListedPatient, ...]
    device: torch.device = CPU

    @property
    def cohort(self) -> Cohort:
        """The lengths of both lists."""
        return Cohort(len(self.trained), len(self.held_out))

    def run(
        self,
        plan: AuditPlan,
        cohort: Cohort | None,
        payment: Payment,
        epsilon_baseline: float = 0.0,
        told: Callable[[int, int], None] | None = None,
    ) -> AuditOutcome:
        """Audit; see :func:`sonoshare_client.audit.auditor.audit_release`."""
        nominal = cohort or self.cohort
        return audit_release(
            self.candidates,
            lambda: Audited(self.trained, self.held_out),
            size=GRID_PX,
            plan=plan,
            cohort=nominal,
            payment=payment,
            epsilon_baseline=epsilon_baseline,
            device=self.device,
            told=told,
        )

    def nearest(self) -> Iterator[tuple[str, PictureFile, PictureFile, float]]:
        """Each trained patient's most alike pair: name, picture, synthetic picture, score.

        NOT private. For the eyes of those who hold the patients' images already; never to be passed on.
        """
        found = self.most_alike(self.trained)
        for patient, own, synthetic, score in zip(self.trained, found.own, found.candidate, found.scores, strict=True):
            yield patient.name, patient.files[own], self.files[synthetic], float(score)

    def most_alike(self, patients: Sequence[ListedPatient]) -> Nearest:
        """Best score of each patient with any synthetic image. NOT private, see `nearest`."""
        looks = looks_for(len(self.candidates), len(self.trained) + len(self.held_out))
        return patient_nearest(self.candidates, [one.images for one in patients], self.device, looks)


def read_folder_audit(folder: Path, train: Path, held_out: Path, device: torch.device = CPU) -> FolderAudit:
    """Read everything a stand-alone audit needs.

    Args:
        folder: synthetic images: a release, or pictures at any depth (folders named masks are left out).
        train: labels.csv of the patients the generator may have been trained on.
        held_out: labels.csv of patients it was not.
        device: where they will be compared.

    Raises:
        InputError: an empty folder, an unreadable picture, or a patient or picture in both lists.
    """
    files = synthetic_files(folder)
    trained, kept = read_labels(train), read_labels(held_out)
    if set(trained.patients) & set(kept.patients):
        raise InputError(
            "a patient is in both lists", remedy="every patient belongs to the train list or to the held-out list"
        )
    of_trained, of_kept = _patients(trained), _patients(kept)
    if _digests(of_trained) & _digests(of_kept):
        raise InputError("a picture is in both lists", remedy="one patient stands under two names: join them")
    return FolderAudit(files, byte_pictures(files), of_trained, of_kept, device)


def synthetic_files(folder: Path) -> tuple[PictureFile, ...]:
    """The synthetic images of a folder, sorted by path; the content says what is a picture, besides the name.

    Raises:
        InputError: the folder does not exist, holds no picture, or holds one of a format that is not read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder.name} is not a folder", remedy="name the folder that holds the synthetic images")
    if (folder / RELEASE_FILE).is_file():
        return tuple(PictureFile.of(row, SYNTHETIC_BOUNDS) for row in read_labels(folder))
    inside = sorted(path for path in folder.rglob("*") if path.is_file() and not _beside(path, folder))
    unread = [path.name for path in inside if path.suffix.lower() in _UNREAD]
    if unread:
        raise InputError(f"{unread[0]} is of a format that is not read", remedy="convert it to PNG, or take it away")
    found = tuple(
        PictureFile(path, bounds=SYNTHETIC_BOUNDS)
        for path in inside
        if path.suffix.lower() in SUFFIXES or _starts_as_picture(path)
    )
    if not found:
        raise InputError(f"{folder.name} holds no picture", remedy="name the folder that holds the synthetic images")
    return found


def _beside(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder of masks."""
    return any(part.lower() in MASKS for part in path.relative_to(folder).parts[:-1])


def _starts_as_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_picture(file.read(START_BYTES))
    except OSError as error:
        raise InputError(f"{path.name} cannot be read", remedy="check its permissions") from error


def byte_pictures(files: Sequence[PictureFile]) -> BytePictures:
    """Pictures on the grid, rounded to 8 bits as a release's own are: 4 KB each.

    Raises:
        InputError: one of them cannot be read.
    """
    pixels = np.empty((len(files), GRID_PX, GRID_PX), np.uint8)
    for place, file in enumerate(files):
        pixels[place] = eight_bits(file.on_grid())
    return BytePictures(pixels)


def _patients(table: LabelTable) -> tuple[ListedPatient, ...]:
    files: dict[str, list[PictureFile]] = {}
    for row in table:
        files.setdefault(row.patient, []).append(PictureFile.of(row))
    return tuple(
        ListedPatient(name, np.stack([file.on_grid() for file in of_one]), tuple(of_one))
        for name, of_one in files.items()
    )


def _digests(patients: Sequence[ListedPatient]) -> set[bytes]:
    """Digests of pictures on the grid; flat pictures say nothing about who they are of."""
    return {hashlib.sha256(image.tobytes()).digest() for one in patients for image in one.images if image.std() > 0}
