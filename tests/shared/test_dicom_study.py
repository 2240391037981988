import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.label_table import LabelTable
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom.dicom_study import write_studies
from sonoshare_shared.science.pictures.bounds import SYNTHETIC_BOUNDS
from sonoshare_shared.science.pictures.reading import read_file

PATIENTS = 14


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return read_labels(write_studies(tmp_path_factory.mktemp("archive"), patients=PATIENTS, seed=4))


def test_labels_are_balanced_over_classes_and_hospitals(archive: LabelTable) -> None:
    assert len(archive.patients) == PATIENTS
    assert PATIENTS < len(archive) < 2 * PATIENTS
    assert archive.hospitals == ("north", "south", "west")
    for hospital in archive.hospitals:
        assert archive.where(lambda row, at=hospital: row.hospital == at).labels == ("benign", "malignant")  # type: ignore[misc]


def test_objects_are_complete_ultrasound_images(archive: LabelTable) -> None:
    photometric = set()
    for row in archive:
        dataset = pydicom.dcmread(row.image)
        assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert dataset.SOPClassUID == pydicom.uid.UltrasoundImageStorage
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.Modality == "US"
        assert dataset.ManufacturerModelName == row.device
        assert dataset.PatientID == row.patient
        assert dataset.pixel_array.shape[:2] == (dataset.Rows, dataset.Columns)
        photometric.add(dataset.PhotometricInterpretation)
        (region,) = dataset.SequenceOfUltrasoundRegions
        assert 0 < region.RegionLocationMinX0 < region.RegionLocationMaxX1 < dataset.Columns
        assert 0 < region.RegionLocationMinY0 < region.RegionLocationMaxY1 < dataset.Rows
        assert any(element.tag.is_private for element in dataset)
    assert photometric == {"MONOCHROME2", "RGB"}


def test_masks_and_boxes_are_in_pixels_of_the_whole_screen(archive: LabelTable) -> None:
    for row in archive:
        assert row.masks
        assert row.box is not None
        dataset = pydicom.dcmread(row.image)
        mask = read_file(row.masks[0], bounds=SYNTHETIC_BOUNDS).pixels
        assert mask.shape == (dataset.Rows, dataset.Columns)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert row.box == (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
        (region,) = dataset.SequenceOfUltrasoundRegions
        assert region.RegionLocationMinX0 <= columns[0] <= columns[-1] <= region.RegionLocationMaxX1
        assert region.RegionLocationMinY0 <= rows[0] <= rows[-1] <= region.RegionLocationMaxY1


def test_the_name_is_burned_in_outside_the_region_only(archive: LabelTable) -> None:
    dataset = pydicom.dcmread(archive.rows[0].image)
    grey = dataset.pixel_array if dataset.SamplesPerPixel == 1 else dataset.pixel_array[:, :, 0]
    top = dataset.SequenceOfUltrasoundRegions[0].RegionLocationMinY0
    assert (grey[:top] > 150).sum() > 200


def test_identities_are_in_many_places(archive: LabelTable) -> None:
    dataset = pydicom.dcmread(archive.rows[0].image)
    last_name = dataset.PatientName.family_name
    places = [line for line in str(dataset).splitlines() if re.search(last_name, line)]
    assert len(places) >= 4


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_studies(one, patients=2, seed=9, size=96)
    write_studies(other, patients=3, seed=9, size=96)
    for path in sorted(one.rglob("*.dcm")):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


def test_uids_are_valid_and_distinct(archive: LabelTable) -> None:
    uids = [pydicom.dcmread(row.image, stop_before_pixels=True).SOPInstanceUID for row in archive]
    assert len(set(uids)) == len(uids)
    assert all(uid.is_valid for uid in uids)


def test_normal_pictures_have_an_empty_mask_and_no_box(tmp_path: Path) -> None:
    row = read_labels(write_studies(tmp_path, patients=1, seed=1, size=96, classes=("normal",))).rows[0]
    assert row.box is None
    assert row.masks
    assert not read_file(row.masks[0], bounds=SYNTHETIC_BOUNDS).pixels.any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"patients": 0},
        {"images_per_patient": (2, 1)},
        {"images_per_patient": (1, 9)},
        {"size": 10},
        {"classes": ("cat",)},
        {"hospitals": ()},
        {"scanner_mix": [[1, 0, 0, 0]]},
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        write_studies(tmp_path, **({"patients": 1, "seed": 1} | wrong))


def test_an_archive_is_not_overwritten(tmp_path: Path) -> None:
    write_studies(tmp_path, patients=1, seed=1, size=96)
    with pytest.raises(InputError, match="already"):
        write_studies(tmp_path, patients=1, seed=1, size=96)
