"""Tables of pictures as the evaluations and `base train --data` read them: PNG, DICOM, masks and boxes."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom.dicom_study import write_studies
from sonoshare_shared.science.pictures.bounds import SYNTHETIC_BOUNDS, Bounds
from sonoshare_shared.science.pictures.reading import read_file


def test_load_labelled_reads_png_and_dicom_alike(tmp_path: Path) -> None:
    table = read_labels(write_studies(tmp_path, patients=6, seed=3, size=128))
    loaded = load_labelled(table, 32)
    assert loaded.images.shape == (len(table), 32, 32)
    assert loaded.masks.any(axis=(1, 2)).all()
    for mask, box in zip(loaded.masks, loaded.boxes, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert box[0] * 32 == pytest.approx(columns[0], abs=1.5)
        assert (box[1] + box[3]) * 32 == pytest.approx(rows[-1] + 1, abs=1.5)
    assert set(loaded.devices) == set(table.devices)
    assert len(loaded.take(loaded.labels == 1)) == (loaded.labels == 1).sum()


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"junk")
    (tmp_path / "b.dcm").write_bytes(b"junk")
    (tmp_path / "labels.csv").write_text("image,patient,label\na.png,1,benign\n")
    with pytest.raises(InputError, match=r"a\.png"):
        load_labelled(read_labels(tmp_path), 32)
    (tmp_path / "labels.csv").write_text("image,patient,label\nb.dcm,1,benign\n")
    with pytest.raises(InputError, match=r"b\.dcm"):
        load_labelled(read_labels(tmp_path), 32)


def test_a_deflated_object_is_inflated_as_far_as_bounds_allow(tmp_path: Path) -> None:
    path = read_labels(write_studies(tmp_path, patients=1, seed=3, size=96)).rows[0].image
    plain = read_file(path).pixels
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    assert np.array_equal(read_file(path).pixels, plain)
    with pytest.raises(InputError, match="grows larger than intake accepts"):
        read_file(path, bounds=Bounds(inflated_bytes=plain.size))


def test_a_box_outside_the_picture_is_refused(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", np.zeros((40, 60), dtype=np.uint8))
    (tmp_path / "labels.csv").write_text('image,patient,label,box\na.png,1,benign,"50,1,20,5"\n')
    with pytest.raises(InputError, match="outside"):
        load_labelled(read_labels(tmp_path), 32)


def test_busbra_loads(busbra: Path) -> None:
    table = read_labels(busbra)
    few = table.where(lambda row: row.fold == 5 and int(row.patient) < 60)
    loaded = load_labelled(few, 64)
    assert loaded.images.std(axis=(1, 2)).min() > 0.02
    assert np.isfinite(loaded.boxes).all()
    inside = [image[mask].mean() for image, mask in zip(loaded.images, loaded.masks, strict=True)]
    assert np.mean(inside) < loaded.images.mean()


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """A folder with one picture, 64 by 48, that names ``m.png`` as its mask."""
    save_png(tmp_path / "a.png", np.arange(48 * 64).reshape(48, 64).astype(np.uint8))
    (tmp_path / "labels.csv").write_text("image,patient,label,mask\na.png,1,benign,m.png\n")
    return tmp_path


@pytest.mark.parametrize(("level", "dtype"), [(255, np.uint8), (1, np.uint8), (65535, np.uint16), (1, np.uint16)])
def test_lesion_is_what_is_not_zero_in_a_mask(masked: Path, level: int, dtype: type) -> None:
    mask = np.zeros((48, 64), dtype)  # type: ignore[var-annotated]
    mask[12:24, 16:48] = level
    Image.fromarray(mask).save(masked / "m.png")
    loaded = load_labelled(read_labels(masked), 32)
    assert loaded.boxes[0] == pytest.approx((0.25, 0.25, 0.5, 0.25))
    assert loaded.masks[0].sum() == 16 * 8


@pytest.mark.parametrize("shape", [(96, 128), (24, 32), (48, 65)])
def test_a_mask_of_another_size_is_refused(masked: Path, shape: tuple[int, int]) -> None:
    save_png(masked / "m.png", np.ones(shape, np.bool_))
    with pytest.raises(InputError, match=r"m\.png.* differ in size"):
        load_labelled(read_labels(masked), 32)


def test_a_mask_outside_the_ultrasound_region_is_refused(tmp_path: Path) -> None:
    table = read_labels(write_studies(tmp_path, patients=1, seed=3, size=96))
    path = table.rows[0].masks[0]
    assert path is not None
    mask = np.asarray(Image.open(path)).copy()
    mask[0, 0] = 255
    save_png(path, mask)
    with pytest.raises(InputError, match="reaches outside the ultrasound region"):
        load_labelled(table, 32)


def test_sixteen_bits_lose_their_lower_half_and_nothing_else(tmp_path: Path) -> None:
    ramp = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    assert np.array_equal(read_file(tmp_path / "a.png").pixels, ramp >> 8)


@pytest.mark.parametrize(
    ("colours", "bits", "wanted"), [("MONOCHROME2", 12, 128), ("MONOCHROME1", 12, 127), ("MONOCHROME2", 8, 128)]
)
def test_dicom_levels_follow_their_description(tmp_path: Path, colours: str, bits: int, wanted: int) -> None:
    dataset = _monochrome(tmp_path, bits)
    dataset.PhotometricInterpretation = colours
    dataset.save_as(tmp_path / "x.dcm")
    assert set(read_file(tmp_path / "x.dcm", bounds=SYNTHETIC_BOUNDS).pixels.ravel().tolist()) == {wanted}


@pytest.mark.parametrize(("attribute", "value"), [("PhotometricInterpretation", "YBR_ICT"), ("PixelRepresentation", 1)])
def test_dicom_of_another_description_is_refused(tmp_path: Path, attribute: str, value: str | int) -> None:
    dataset = _monochrome(tmp_path, 8)
    setattr(dataset, attribute, value)
    dataset.save_as(tmp_path / "x.dcm")
    with pytest.raises(InputError, match=r"x\.dcm"):
        read_file(tmp_path / "x.dcm")


def test_an_object_without_a_usable_region_is_refused_by_name(tmp_path: Path) -> None:
    dataset = _monochrome(tmp_path, 8)
    region = pydicom.Dataset()
    region.RegionLocationMinX0 = None
    for regions in ([region], []):
        dataset.SequenceOfUltrasoundRegions = regions
        dataset.save_as(tmp_path / "x.dcm")
        with pytest.raises(InputError, match=r"x\.dcm: no ultrasound region"):
            read_file(tmp_path / "x.dcm")


def _monochrome(folder: Path, bits: int) -> pydicom.FileDataset:
    """A small object, half way between black and white, all of it one region."""
    table = read_labels(write_studies(folder / "studies", patients=1, seed=3, size=96))
    dataset = pydicom.dcmread(table.rows[0].image)
    allocated = 8 if bits == 8 else 16
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, bits, bits - 1
    dataset.Rows, dataset.Columns = 32, 32
    (region,) = dataset.SequenceOfUltrasoundRegions
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1 = region.RegionLocationMaxY1 = 31
    levels = np.full((32, 32), 1 << (bits - 1), np.uint8 if bits == 8 else np.uint16)
    dataset.PixelData = levels.tobytes()
    return dataset
