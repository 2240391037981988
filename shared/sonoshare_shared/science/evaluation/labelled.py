"""Labelled pictures on the model's grid, from any table of labels.

Promises: pictures in the order of the table, each exactly as a hospital's intake would keep it (`pictures.reading`);
boxes in fractions of what is kept; a picture that cannot be read stops with an error that names its file's last
component, in intake's words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.imaging import mask_to_grid, to_grid
from sonoshare_shared.science.label_table import LabelTable
from sonoshare_shared.science.pictures.bounds import DEFAULT_BOUNDS, SYNTHETIC_BOUNDS
from sonoshare_shared.science.pictures.reading import read_file

CLASSES = ("benign", "malignant")
NO_FOLD = -1


@dataclass(frozen=True)
class LabelledImages:
    """Pictures of n rows.

    Attributes:
        images: float32 [n, size, size] in 0..1.
        masks: bool [n, size, size]; empty where unknown.
        labels: int64 [n], index in ``classes``.
        boxes: float32 [n, 4], x, y, w, h in fractions; NaN where unknown.
        patients: str [n].
        devices: str [n], "" where unknown.
        folds: int64 [n], official fold or -1.
        classes: class names.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    patients: NDArray[np.str_]
    devices: NDArray[np.str_]
    folds: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> "LabelledImages":
        """The rows chosen by a boolean mask or by indices."""
        return replace(
            self,
            images=self.images[rows],
            masks=self.masks[rows],
            labels=self.labels[rows],
            boxes=self.boxes[rows],
            patients=self.patients[rows],
            devices=self.devices[rows],
            folds=self.folds[rows],
        )


def load_labelled(
    table: LabelTable, size: int, classes: Sequence[str] = CLASSES, *, synthetic: bool = False
) -> LabelledImages:
    """Read the pictures of a table.

    Args:
        table: rows of ``read_labels``.
        size: side of the grid in pixels.
        classes: class names; a row with another label is refused.
        synthetic: the pictures are generated ones, and judged as they are; so are those of a release.

    Returns:
        The pictures on the grid.

    Raises:
        InputError: for an unknown class, an unreadable picture, or a box outside its picture.
    """
    table.require_classes(classes)
    n = len(table)
    images = np.empty((n, size, size), dtype=np.float32)
    masks = np.zeros((n, size, size), dtype=np.bool_)
    boxes = np.empty((n, 4), dtype=np.float32)
    bounds = SYNTHETIC_BOUNDS if synthetic or table.synthetic else DEFAULT_BOUNDS
    for i, row in enumerate(table):
        kept = read_file(row.image, row.masks, row.box, frame=row.frame, region=row.region, bounds=bounds)
        images[i] = to_grid(kept.pixels, size)
        boxes[i] = np.nan if kept.box is None else kept.box
        if kept.mask is not None:
            masks[i] = mask_to_grid(kept.mask, size)
    return LabelledImages(
        images=images,
        masks=masks,
        labels=np.array([list(classes).index(row.label) for row in table], dtype=np.int64),
        boxes=boxes,
        patients=np.array([row.patient for row in table], dtype=np.str_),
        devices=np.array([row.device for row in table], dtype=np.str_),
        folds=np.array([NO_FOLD if row.fold is None else row.fold for row in table], dtype=np.int64),
        classes=tuple(classes),
    )
