"""From the vault to arrays for one task: what training and audits of this hospital work on.

Everything stays grouped by patient, because the patient is the unit of every promise. The arrays depend on the
patient's own images, the task and the grid size alone: no mean, scale or vocabulary is computed over patients.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_client.vault.store import PatientRecord, Vault
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import Task
from sonoshare_shared.science.imaging import mask_to_grid, to_grid

UNKNOWN_SCANNER: Final = -1
_NO_LESION: Final = (0.0, 0.0, 0.0, 0.0)
_NO_BOX: Final = (float("nan"),) * 4


@dataclass(frozen=True, eq=False)
class PatientArrays:
    """All images of one patient on the grid.

    Attributes:
        pseudonym: keyed pseudonym.
        held_out: never trained on.
        images: float32 [n, S, S] in 0..1.
        masks: bool [n, S, S]; all False where ``has_mask`` is False.
        has_mask: bool [n].
        boxes: float32 [n, 4], x, y, w, h in fractions; NaN where unknown, zero where there is no lesion.
        labels: int64 [n], class index of the task.
        scanners: int64 [n], scanner index of the task, -1 where the device is unknown to it.
    """

    pseudonym: str
    held_out: bool
    images: NDArray[np.float32]
    masks: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scanners: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The hospital's patients for one task, sorted by pseudonym.

    Attributes:
        task: the task.
        size: side S of the grid in pixels.
        patients: one entry for each patient, trained and held out.
    """

    task: Task
    size: int
    patients: tuple[PatientArrays, ...]

    @property
    def trained(self) -> tuple[PatientArrays, ...]:
        """Patients that may be trained on."""
        return tuple(patient for patient in self.patients if not patient.held_out)

    @property
    def held_out(self) -> tuple[PatientArrays, ...]:
        """Patients that are never trained on."""
        return tuple(patient for patient in self.patients if patient.held_out)


def grid(vault: Vault, task: Task, size: int) -> TrainingSet:
    """Open the whole vault on the grid of a task.

    Args:
        vault: the hospital's images.
        task: classes and scanners.
        size: side of the grid in pixels.

    Returns:
        Arrays per patient; about ``5 size**2`` bytes an image.

    Raises:
        InputError: an image's class is not of the task; names the classes and how many images, nothing else.
    """
    strangers: Counter[str] = Counter()
    patients = []
    for record in vault.patients():
        images = [vault.load(ref) for ref in record.images]
        strange = [image.label for image in images if image.label not in task.classes]
        strangers.update(strange)
        if not strangers:
            patients.append(_arrays(record, images, task, size))
    if strangers:
        found = ", ".join(f"'{label}' ({count} images)" for label, count in sorted(strangers.items()))
        raise InputError(
            f"the vault holds classes that task {task.name} does not know: {found}",
            remedy=f"the task's classes are {', '.join(task.classes)}; correct labels.csv or choose another task",
        )
    return TrainingSet(task, size, tuple(patients))


def _arrays(record: PatientRecord, images: list[StoredImage], task: Task, size: int) -> PatientArrays:
    empty = np.zeros((size, size), np.bool_)
    return PatientArrays(
        pseudonym=record.pseudonym,
        held_out=record.held_out,
        images=np.stack([to_grid(image.pixels, size) for image in images]),
        masks=np.stack([empty if image.mask is None else mask_to_grid(image.mask, size) for image in images]),
        has_mask=np.array([image.mask is not None for image in images], np.bool_),
        boxes=np.array([_box(image) for image in images], np.float32),
        labels=np.array([task.classes.index(image.label) for image in images], np.int64),
        scanners=np.array([_scanner(image, task) for image in images], np.int64),
    )


def _box(image: StoredImage) -> tuple[float, ...]:
    if image.box is not None:
        return image.box
    # An outline that is empty says that there is no lesion; no outline says nothing.
    return _NO_LESION if image.mask is not None and not image.mask.any() else _NO_BOX


def _scanner(image: StoredImage, task: Task) -> int:
    return task.scanners.index(image.device) if image.device in task.scanners else UNKNOWN_SCANNER
