"""A verified release as Parquet and as DICOM: the same pictures, opened by other people's programs."""

import gc
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import highdicom
import httpx
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pydicom
import pytest
from click.testing import CliRunner
from datasets import load_dataset
from PIL import Image
from tests.client.dicom_peers import free_port, needs_orthanc, orthanc, storescu
from tests.shared.consortium import NOW, Consortium

from sonoshare_deploy.cli.main import cli
from sonoshare_shared.errors import InputError, VerificationError
from sonoshare_shared.protocol.documents import ReleaseManifest
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.science.export.dicom import export_dicom
from sonoshare_shared.science.export.parquet import export_parquet
from sonoshare_shared.science.export.pictures import Source, source_in

WAIVED = (
    # The edition of the standard that Debian's dciodvfy knows is older than the attribute (PS3.3 C.12.1, 2024).
    "(0x0008,0x001c)  ?  - Warning - Unrecognized tag - assuming explicit value representation OK",
    "Error - Attribute with an even group number is not a recognized standard attribute - (0x0008,0x001c)  ?",
    "Warning - Attribute is not present in standard DICOM IOD - (0x0008,0x001c)  ?",
    (
        "Warning - Dicom dataset contains attributes not present in standard DICOM IOD - "
        "this is a Standard Extended SOP Class"
    ),
    # A simulated breast is neither the left nor the right one: the side is actually unknown.
    (
        "Warning - is only permitted to be empty when actually unknown; should be absent (not empty) if an unpaired "
        "body part, and have a value if a paired body part - attribute <Laterality>"
    ),
    # The two kinds of object that it found.
    "USImage",
    "Segmentation",
)
GOLDEN = Path(__file__).parents[1] / "golden" / "v1" / "release"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Consortium(tmp_path_factory.mktemp("export")).release()


@pytest.fixture(scope="module")
def source(folder: Path) -> Source:
    return source_in(folder, ReleaseManifest.from_bytes((folder / layout.MANIFEST).read_bytes()))


@pytest.fixture(scope="module")
def shards(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parquet") / "out"
    export_parquet(source, out, shard_rows=4)
    return out


@pytest.fixture(scope="module")
def objects(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dicom") / "out"
    export_dicom(source, out)
    return out


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def signed_sums(release: Path) -> dict[str, str]:
    lines = (release / layout.SHA256SUMS).read_text().splitlines()
    return {path: digest for digest, path in (line.split("  ") for line in lines)}


# The library leaves closing metadata.csv to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_datasets_loads_the_folder_itself(folder: Path, offline: Path) -> None:
    loaded = load_dataset(str(folder), cache_dir=str(offline))["train"]
    assert len(loaded) == 11
    assert {"image", "mask", "label", "split", "case", "birads", "mm_per_pixel_x"} <= loaded.features.keys()
    with Image.open(folder / "images/000003.png") as image:
        np.testing.assert_array_equal(np.asarray(loaded[3]["image"]), np.asarray(image))
    gc.collect()  # here, where it is expected, and not in the test that comes next


def test_datasets_loads_the_shards_with_splits_class_names_and_pictures(shards: Path, offline: Path) -> None:
    loaded = load_dataset(str(shards), cache_dir=str(offline))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 7, "validation": 2, "test": 2}
    first = loaded["train"][0]
    assert loaded["train"].features["label"].names == ["benign", "malignant"]
    assert (first["image"].size, first["image"].mode, first["mm_per_pixel_y"]) == ((16, 16), "L", 0.75)
    assert set(np.unique(np.asarray(first["mask"]))) == {0, 255}


def test_shards_hold_the_signed_files_and_nothing_more(folder: Path, shards: Path) -> None:
    sums, seen = signed_sums(folder), []
    for path in sorted((shards / "data").iterdir()):
        assert pq.read_schema(path).metadata.keys() == {b"huggingface"}
        for row in pq.read_table(path).to_pylist():
            for picture in (row["image"], row["mask"]):
                assert hashlib.sha256(picture["bytes"]).hexdigest() == sums[picture["path"]]
            seen.append(row["image"]["path"])
    assert sorted(seen) == sorted(path for path in sums if path.startswith("images/"))
    assert [path.name for path in sorted((shards / "data").glob("train*"))] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]


def test_pandas_and_duckdb_read_the_shards(shards: Path) -> None:
    table = pd.read_parquet(shards / "data" / "test-00000-of-00001.parquet")
    assert sorted(table["label"]) == [0, 1]
    rows = duckdb.read_parquet(f"{shards}/data/*.parquet")
    counted = rows.aggregate("label, count(*)").order("label")
    assert counted.fetchall() == [(0, 6), (1, 5)]


def test_the_same_release_gives_the_same_files(source: Source, shards: Path, objects: Path, tmp_path: Path) -> None:
    export_parquet(source, tmp_path / "parquet", shard_rows=4)
    export_dicom(source, tmp_path / "dicom")
    for first, again in ((shards, tmp_path / "parquet"), (objects, tmp_path / "dicom")):
        files = [path.relative_to(first) for path in sorted(first.rglob("*")) if path.is_file()]
        assert files
        assert [(again / path).read_bytes() for path in files] == [(first / path).read_bytes() for path in files]


@pytest.mark.parametrize("form", [export_parquet, export_dicom])
def test_a_picture_that_changed_after_verification_is_refused_and_nothing_appears(
    form: Any, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "release"
    shutil.copytree(folder, copy)
    changed = source_in(copy, ReleaseManifest.from_bytes((copy / layout.MANIFEST).read_bytes()))
    (copy / "masks/000007.png").write_bytes((copy / "masks/000011.png").read_bytes())
    with pytest.raises(VerificationError, match="changed while it was read"):
        form(changed, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release"]


def test_dicom_shows_the_same_pixels_and_says_that_it_is_synthetic(objects: Path, folder: Path) -> None:
    image = pydicom.dcmread(objects / "images/000003.dcm")
    with Image.open(folder / "images/000003.png") as png:
        np.testing.assert_array_equal(image.pixel_array, np.asarray(png))
    assert image.SyntheticData == "YES"
    assert image.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    assert image.SequenceOfUltrasoundRegions[0].PhysicalDeltaY == pytest.approx(0.075)
    assert (image.PatientBirthDate, image.PatientSex) == ("", "")
    assert image.PatientID.startswith("SYN-")
    assert image.PatientID.endswith("-000003")
    assert image.StudyDate == f"{NOW:%Y%m%d}"
    uids = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in objects.rglob("*.dcm")}
    assert len(uids) == len(list(objects.rglob("*.dcm"))) == 21
    assert all(uid.startswith("2.25.") and uid.is_valid for uid in uids)


def test_highdicom_reads_the_lesion_mask_of_each_image(objects: Path, folder: Path) -> None:
    read = highdicom.seg.segread(objects / "masks/000003.dcm")
    image = pydicom.dcmread(objects / "images/000003.dcm")
    pixels = read.get_pixels_by_source_instance([image.SOPInstanceUID], ignore_spatial_locations=True)
    with Image.open(folder / "masks/000003.png") as png:
        np.testing.assert_array_equal(np.squeeze(pixels) > 0, np.asarray(png) > 0)
    assert read.SyntheticData == "YES"
    assert (read.PatientID, read.StudyInstanceUID) == (image.PatientID, image.StudyInstanceUID)
    assert not (objects / "masks/000011.dcm").exists()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="no dciodvfy here (make servers): objects not validated")
@pytest.mark.parametrize("path", ["images/000003.dcm", "masks/000003.dcm", "images/000011.dcm"])
def test_case_66_dciodvfy_finds_only_the_waived_lines(objects: Path, path: str) -> None:
    run = subprocess.run(["dciodvfy", str(objects / path)], capture_output=True, text=True, check=False)  # noqa: S607
    lines = [line.strip() for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    assert lines
    assert [line for line in lines if line not in WAIVED] == []


@needs_orthanc
def test_orthanc_takes_images_and_masks_by_c_store(objects: Path, tmp_path: Path) -> None:
    paths = [objects / "images/000003.dcm", objects / "masks/000003.dcm"]
    with orthanc(tmp_path / "orthanc", free_port()) as archive:
        sent = storescu(archive.dicom_port, *paths, called="ORTHANC")
        assert sent.returncode == 0, sent.stderr
        found = httpx.get(f"{archive.url}/instances?expand", trust_env=False).json()
    uids = {str(pydicom.dcmread(path).SOPInstanceUID) for path in paths}
    assert {instance["MainDicomTags"]["SOPInstanceUID"] for instance in found} == uids


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="no dcm2pnm here (make servers): not opened with dcmtk")
def test_dcmtk_draws_the_same_pixels(objects: Path, folder: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.pgm"
    subprocess.run(["dcm2pnm", "--no-windowing", str(objects / "images/000003.dcm"), str(drawn)], check=True)  # noqa: S607
    with Image.open(folder / "images/000003.png") as png, Image.open(drawn) as pgm:
        np.testing.assert_array_equal(np.asarray(pgm), np.asarray(png))


def test_a_release_of_earlier_days_is_exported_too(tmp_path: Path) -> None:
    manifest = ReleaseManifest.from_bytes((GOLDEN / layout.MANIFEST).read_bytes())
    old = source_in(GOLDEN, manifest)
    assert export_parquet(old, tmp_path / "parquet") == ["data/train-00000-of-00001.parquet"]
    assert "case" not in pq.read_schema(tmp_path / "parquet/data/train-00000-of-00001.parquet").names
    assert len(export_dicom(old, tmp_path / "dicom")) >= 2


def test_export_verifies_first(folder: Path, tmp_path: Path) -> None:
    command = ["export", str(folder), "--as", "parquet", "--roster", str(folder / layout.ROSTER), "--json", "--out"]
    run = CliRunner().invoke(cli, [*command, str(tmp_path / "out")], catch_exceptions=False)
    assert json.loads(run.stdout.splitlines()[-1])["images"] == 11
    with pytest.raises(InputError, match="already exists"):
        CliRunner().invoke(cli, [*command, str(tmp_path / "out")], catch_exceptions=False)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / layout.DATASHEET).write_text("changed")
    command[1] = str(copy)
    with pytest.raises(VerificationError):
        CliRunner().invoke(cli, [*command, str(tmp_path / "other")], catch_exceptions=False)
    assert not (tmp_path / "other").exists()
