"""Crafted ultrasound objects, good and hostile, and small nodes to take them in."""

import csv
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.store import Vault
from sonoshare_client.vault.stored_image import StoredImage

ROWS, COLUMNS = 96, 128
REGION = (16, 8, 111, 87)  # x0, y0, x1, y1, the last pixel included

config.settings.writing_validation_mode = config.IGNORE
config.settings.reading_validation_mode = config.IGNORE


def region(corners: tuple[int, int, int, int] = REGION, *, data_type: int = 1, spatial: int = 1) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = spatial, data_type, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = corners[0], corners[1]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = corners[2], corners[3]
    return item


def speckle(seed: Any, rows: Any = ROWS, columns: Any = COLUMNS) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns), dtype=np.uint8)


def ultrasound(seed: int = 0, syntax: UID = ExplicitVRLittleEndian) -> FileDataset:
    """A small valid ultrasound object, without any identity; tests change what they need."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(seed)])
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "US"
    dataset.Manufacturer, dataset.ManufacturerModelName = "GE Healthcare", "LOGIQ E9"
    dataset.SequenceOfUltrasoundRegions = Sequence([region()])
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = speckle(seed).tobytes()
    dataset["PixelData"].VR = "OB"
    return dataset


def changed(change: Callable[[FileDataset], None], seed: int = 0) -> FileDataset:
    dataset = ultrasound(seed)
    change(dataset)
    return dataset


def save(dataset: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom rightly complains about what is written here
        dataset.save_as(path, enforce_file_format=True)
    return path


def write_labels(folder: Path, rows: Iterable[dict[str, str]]) -> Path:
    """Write labels.csv; a row needs only its image."""
    path = folder / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["image", "patient", "label", "device", "mask", "box", "frame"], restval="")
        writer.writeheader()
        for number, row in enumerate(rows):
            writer.writerow({"patient": f"patient-{number}", "label": "benign"} | row)
    return path


def make_node(path: Path, hospital: str = "north", **options: Any) -> NodeHome:
    return NodeHome.create(path, hospital, **options)


def plain_vault(home: NodeHome) -> list[Any]:
    """Everything the vault keeps, opened: (pseudonym, image), in the order of patients."""
    with Vault(home) as vault:
        return [(patient.pseudonym, vault.load(ref)) for patient in vault.patients() for ref in patient.images]


def assert_sound(home: NodeHome, expected: int | None = None) -> int:
    """Every row opens, and no blob is without a row; returns the number of images."""
    images = plain_vault(home)
    blobs = [path for path in (home.vault_path / "blobs").iterdir() if path.is_file()]
    assert len(blobs) == len(images)
    if expected is not None:
        assert len(images) == expected
    return len(images)


def image(
    seed: Any = 0,
    *,
    label: str = "benign",
    mask: NDArray[np.uint8] | None = None,
    box: Any = None,
    rows: Any = 20,
    columns: Any = 30,
) -> StoredImage:
    """A picture as the vault stores it."""
    return StoredImage(speckle(seed, rows, columns), mask, box, label, "GE Logiq 7")


def nearly_blank(path: Path, level: int = 9) -> Path:
    """A picture that varies in half a percent of its pixels, over many levels: a cyst that fills the screen."""
    pixels = np.full((96, 128), level, np.uint8)
    pixels[40:44, 40:55] = np.arange(60, dtype=np.uint8).reshape(4, 15) * 3 + 20
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
