"""Labelled pictures on the model's grid, from any table of labels.

Promises: pictures in the order of the table; boxes in fractions of the picture they belong to; a picture that cannot be
read stops with an error that names its file's last component; a mask is of the whole stored picture's size. DICOM is
read only where it is uncompressed grey or RGB, and cropped to its first ultrasound region, boxes and masks with it.
That is for a researcher's own files: a hospital's archive goes through intake, which decodes in a process of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.imaging import (
    MAX_SIDE,
    box_fractions,
    box_of_mask,
    eight_bits,
    load_mask,
    load_png,
    luma,
    mask_to_grid,
    to_grid,
)
from sonoshare_shared.science.labels import LabelRow, LabelTable

CLASSES = ("benign", "malignant")
DICOM_SUFFIXES = (".dcm", ".dicom")
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
"""Transfer syntaxes: implicit and explicit VR little endian."""
DICOM_COLOURS = ("MONOCHROME1", "MONOCHROME2", "RGB")
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


@dataclass(frozen=True)
class Picture:
    """Grey levels, and where they lie in the stored picture.

    Attributes:
        pixels: uint8 [H, W].
        stored: height and width of the stored picture.
        offset: x, y of the first pixel in it.
    """

    pixels: NDArray[np.uint8]
    stored: tuple[int, int]
    offset: tuple[int, int] = (0, 0)


def read_picture(path: Path) -> Picture:
    """Read one picture file.

    Args:
        path: PNG, JPEG, BMP, or uncompressed DICOM.

    Returns:
        Its grey levels; of a DICOM object those within its first ultrasound region.

    Raises:
        InputError: when it cannot be read.
    """
    if path.suffix.lower() in DICOM_SUFFIXES:
        return _read_dicom(path)
    pixels = load_png(path)
    return Picture(pixels, (pixels.shape[0], pixels.shape[1]))


def _read_dicom(path: Path) -> Picture:
    try:
        import pydicom  # noqa: PLC0415 (an optional extra)
        from pydicom.errors import InvalidDicomError  # noqa: PLC0415
        from pydicom.filereader import read_file_meta_info  # noqa: PLC0415
    except ImportError as error:
        raise InputError("DICOM needs the package pydicom", remedy="pip install 'sonoshare[client]'") from error
    try:
        # Before anything is parsed: deflated and compressed objects can exhaust memory or abort the process; intake
        # decodes them in a child.
        if read_file_meta_info(path).TransferSyntaxUID not in UNCOMPRESSED:
            raise InputError(f"{path.name} is compressed", remedy="convert it to PNG, or use intake")
        dataset = pydicom.dcmread(path, defer_size="1 KB")
        if max(dataset.Rows, dataset.Columns) > MAX_SIDE:
            raise InputError(f"{path.name} is too large", remedy=f"at most {MAX_SIDE} pixels a side")
        pixels = dataset.pixel_array
        regions = dataset.get("SequenceOfUltrasoundRegions") or []
        left, top, right, bottom = 0, 0, int(dataset.Columns), int(dataset.Rows)
        if regions:
            left, top = int(regions[0].RegionLocationMinX0), int(regions[0].RegionLocationMinY0)
            right, bottom = int(regions[0].RegionLocationMaxX1) + 1, int(regions[0].RegionLocationMaxY1) + 1
        colours, stored_bits = str(dataset.PhotometricInterpretation), int(dataset.BitsStored)
        signed = int(dataset.PixelRepresentation) != 0
    except (InvalidDicomError, AttributeError, KeyError, TypeError, ValueError, NotImplementedError, OSError) as error:
        raise InputError(f"{path.name} cannot be read as DICOM", remedy="convert it to PNG") from error
    if colours not in DICOM_COLOURS or signed:
        raise InputError(f"{path.name} is not unsigned grey or RGB", remedy="convert it to PNG")
    levels = eight_bits(np.asarray(pixels), stored_bits)
    grey = luma(levels) if colours == "RGB" else 255 - levels if colours == "MONOCHROME1" else levels
    if grey.ndim != 2 or not (0 <= left < right <= grey.shape[1] and 0 <= top < bottom <= grey.shape[0]):
        raise InputError(f"{path.name} has no single picture inside its region", remedy="convert it to PNG")
    return Picture(grey[top:bottom, left:right], (grey.shape[0], grey.shape[1]), (left, top))


def _box_of(row: LabelRow, picture: Picture, mask: NDArray[np.bool_] | None) -> tuple[float, ...]:
    height, width = picture.pixels.shape
    if row.box is not None:
        x, y, w, h = row.box
        return box_fractions((x - picture.offset[0], y - picture.offset[1], w, h), width, height)
    found = None if mask is None else box_of_mask(mask)
    return (np.nan,) * 4 if found is None else found


def _mask_of(row: LabelRow, picture: Picture) -> NDArray[np.bool_] | None:
    if row.mask is None:
        return None
    whole = load_mask(row.mask)
    if whole.shape != picture.stored:
        raise InputError(
            f"mask {row.mask.name} has another size than its picture", remedy="export it at the picture's size"
        )
    (height, width), (left, top) = picture.pixels.shape, picture.offset
    mask = whole[top : top + height, left : left + width]
    if mask.sum() != whole.sum():
        raise InputError(
            f"mask {row.mask.name} reaches outside the ultrasound region", remedy="correct the mask or leave it blank"
        )
    return mask


def load_labelled(table: LabelTable, size: int, classes: Sequence[str] = CLASSES) -> LabelledImages:
    """Read the pictures of a table.

    Args:
        table: rows of ``read_labels``.
        size: side of the grid in pixels.
        classes: class names; a row with another label is refused.

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
    for i, row in enumerate(table):
        picture = read_picture(row.image)
        mask = _mask_of(row, picture)
        images[i] = to_grid(picture.pixels, size)
        try:
            boxes[i] = _box_of(row, picture, mask)
        except InputError as error:
            raise InputError(f"{row.image.name}: {error.message}", remedy=error.remedy) from error
        if mask is not None:
            masks[i] = mask_to_grid(mask, size)
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
