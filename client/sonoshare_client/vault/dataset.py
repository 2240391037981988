"""From the vault to arrays for one task: what training and audits of this hospital work on.

Everything stays grouped by patient, because the patient is the unit of every promise. The arrays depend on the
patient's own images, the task and the grid size alone: no mean, scale or vocabulary is computed over patients.

Whatever is wrong with a patient leaves *that patient* out, whole, and is never an error: a class that the task does
not know, an image that is missing, damaged or too large, no image at all. So one patient, whatever their data, adds or
takes away one entry and nothing else. Of a patient with very many images the first ``MOST_IMAGES`` count, so that one
patient's share of time and memory is bounded. An image without a class waits for one: it takes no part, and a patient
who has no other is left out.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_client.vault.cohort import Cohort, Extent, Filling, PatientArrays
from sonoshare_client.vault.store import PatientRecord, Vault
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.protocol.documents import Task
from sonoshare_shared.science.imaging import mask_to_grid, to_grid

UNKNOWN_SCANNER: Final = -1
_NO_LESION: Final = (0.0, 0.0, 0.0, 0.0)
_NO_BOX: Final = (float("nan"),) * 4
MOST_IMAGES: Final = 256
"""Images of one patient that are used, in the order of intake."""

WAITING: Final = "no image has a class yet"
UNREADABLE: Final = "an image cannot be used"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The hospital's patients for one task, each side sorted by pseudonym.

    Attributes:
        task: the task.
        size: side S of the grid in pixels.
        trained: patients that may be trained on.
        held_out: patients that are never trained on.
        left_out: patients who take no part in this task, by reason; for the hospital's own eyes.
    """

    task: Task
    size: int
    trained: Cohort
    held_out: Cohort
    left_out: Mapping[str, int] = field(default_factory=dict)


class _LeftOutError(Exception):
    """Why a patient takes no part."""


def grid(vault: Vault, patients: Iterable[PatientRecord], task: Task, size: int) -> TrainingSet:
    """Open patients on the grid of a task.

    Args:
        vault: the hospital's images.
        patients: who is asked for, sorted by pseudonym.
        task: classes and scanners.
        size: side of the grid in pixels.

    Returns:
        Every patient who can take part; about ``1.13 size**2`` bytes an image, and one patient's as float32 meanwhile.
    """
    everybody, left_out = tuple(patients), Counter[str]()
    trained, held_out = (_room(everybody, size, held_out=side) for side in (False, True))
    for record in everybody:
        try:
            (held_out if record.held_out else trained).add(_opened(vault, record, task, size))
        except _LeftOutError as reason:
            left_out[str(reason)] += 1
        except Exception as error:  # noqa: BLE001 - one patient's data, whatever it is, must not decide for the others
            _log.warning("a patient is left out: %s", type(error).__name__)
            left_out[UNREADABLE] += 1
    return TrainingSet(task, size, trained.cohort(), held_out.cohort(), dict(left_out))


def _room(everybody: Iterable[PatientRecord], size: int, *, held_out: bool) -> Filling:
    """Room for one side of the split."""
    images = [min(len(record.images), MOST_IMAGES) for record in everybody if record.held_out == held_out]
    return Filling(Extent(size, held_out, most_patients=len(images), most_rows=sum(images)))


def _opened(vault: Vault, record: PatientRecord, task: Task, size: int) -> PatientArrays:
    opened = (_row(vault.load(ref), task, size) for ref in record.images[:MOST_IMAGES])
    rows = [row for row in opened if row is not None]
    if not rows:
        raise _LeftOutError(WAITING if record.images else "no image")
    return PatientArrays(
        pseudonym=record.pseudonym,
        held_out=record.held_out,
        images=np.stack([row.image for row in rows]),
        masks=np.stack([row.mask for row in rows]),
        has_mask=np.array([row.has_mask for row in rows], np.bool_),
        boxes=np.array([row.box for row in rows], np.float32),
        labels=np.array([row.label for row in rows], np.int64),
        scanners=np.array([row.scanner for row in rows], np.int64),
    )


@dataclass(frozen=True, eq=False)
class _Row:
    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    has_mask: bool
    box: tuple[float, ...]
    label: int
    scanner: int


def _row(image: StoredImage, task: Task, size: int) -> _Row | None:
    """One image on the grid; the full picture is let go, so that one patient holds no more than a grid an image.

    None where the image waits for its class.
    """
    if not image.label:
        return None
    if image.label not in task.classes:
        raise _LeftOutError(f"class '{image.label}' is not of the task")
    return _Row(
        image=to_grid(image.pixels, size),
        mask=np.zeros((size, size), np.bool_) if image.mask is None else mask_to_grid(image.mask, size),
        has_mask=image.mask is not None,
        box=_box(image),
        label=task.classes.index(image.label),
        scanner=_scanner(image, task),
    )


def _box(image: StoredImage) -> tuple[float, ...]:
    if image.box is not None:
        if not all(0 <= value <= 1 for value in image.box):
            raise _LeftOutError("a box is outside its image")
        return image.box
    # An outline that is empty says that there is no lesion; no outline says nothing.
    return _NO_LESION if image.mask is not None and not image.mask.any() else _NO_BOX


def _scanner(image: StoredImage, task: Task) -> int:
    return task.scanners.index(image.device) if image.device in task.scanners else UNKNOWN_SCANNER
