"""Labels that name no file join by what the header says; a folder without labels waits for them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from tests.client.crafted import REGION, make_node, plain_vault, save, speckle, ultrasound

from sonoshare_client.intake.ingest import ingest
from sonoshare_client.intake.reasons import SetAside
from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.dataset import WAITING, grid
from sonoshare_client.vault.store import Vault
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.pictures.reading import read_file
from sonoshare_shared.science.pictures.reasons import Reason
from sonoshare_shared.science.tasks.files import read_task

CONSTANT = "1.2.826.0.1.3680043.9."


def named(seed: int, patient: str, accession: str) -> FileDataset:
    dataset = ultrasound(seed)
    dataset.PatientID, dataset.AccessionNumber = patient, accession
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{CONSTANT}1.{accession}", f"{CONSTANT}2.{seed}"
    dataset.IssuerOfPatientID = f"issuer {seed}"
    return dataset


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return make_node(tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of Ann's one examination, one of Bob's, and a picture without a header."""
    folder = tmp_path / "in"
    for seed, patient, accession in ((1, "Ann", "100"), (2, " Ann ", "100"), (3, "Bob", "200")):
        save(named(seed, patient, accession), folder / "pacs" / f"IM{seed}")
    save_png(folder / "export.png", speckle(9) / 255)
    return folder


def kept(home: NodeHome) -> list[tuple[str, str]]:
    with Vault(home) as vault:
        names = {vault.pseudonym(name): name for name in ("Ann", "Bob", "A", "B")}
    return sorted((names[pseudonym], image.label) for pseudonym, image in plain_vault(home))


def test_all_files_of_an_accession_get_its_label_and_the_patient_of_the_header(home: NodeHome, folder: Path) -> None:
    (folder / "labels.csv").write_text("accession,label\n100,benign\n200,malignant\n300,benign\n")
    report = ingest(home, folder)
    assert kept(home) == [("Ann", "benign"), ("Ann", "benign"), ("Bob", "malignant")]
    assert [(entry.source, entry.reason, entry.line) for entry in report.quarantined] == [
        ("(accession)", SetAside.NO_FILE.value, 4)
    ]
    assert (report.accepted, report.patients, report.unlisted) == (3, 2, ("export.png",))


def test_the_table_says_who_the_patients_are_where_it_has_the_column(home: NodeHome, folder: Path) -> None:
    object_id = str(ultrasound(2).SOPInstanceUID)
    rows = [f"{object_id},,,A,benign", f",{CONSTANT}1.100,,B,malignant", f",,{CONSTANT}2.3,B,malignant"]
    table = folder.parent / "pathology.csv"
    table.write_text("\n".join(["sop,study,series,patient,label", *rows, ""]))
    assert ingest(home, folder, table).accepted == 3
    assert kept(home) == [("A", "benign"), ("B", "malignant"), ("B", "malignant")]


def test_a_folder_without_labels_waits_and_is_classified_by_a_later_table(home: NodeHome, folder: Path) -> None:
    report = ingest(home, folder)
    assert (report.accepted, report.waiting, report.unlisted) == (3, 3, ("export.png",))
    assert ingest(home, folder).duplicates == 3
    with Vault(home) as vault:
        training = grid(vault, vault.patients(), read_task("diagnosis"), 32)
        assert (len(training.trained), len(training.held_out), training.left_out) == (0, 0, {WAITING: 2})
        before = vault.generation()
    (folder / "pathology.csv").write_text("accession,label\n100,benign\n")
    report = ingest(home, folder, folder / "pathology.csv")
    assert (report.duplicates, report.classified, report.waiting, report.conflicts) == (2, 2, 0, 0)
    assert kept(home) == [("Ann", "benign"), ("Ann", "benign"), ("Bob", "")]
    with Vault(home) as vault:
        training = grid(vault, vault.patients(), read_task("diagnosis"), 32)
        assert len(training.trained) + len(training.held_out) == 1
        assert vault.generation() > before
        assert vault.compared() == 3
    assert ingest(home, folder, folder / "pathology.csv").classified == 0
    assert len(list((home.vault_path / "blobs").iterdir())) == 3


def test_a_class_is_not_taken_away_or_changed(home: NodeHome, folder: Path) -> None:
    table = folder / "pathology.csv"
    table.write_text("accession,label\n100,benign\n")
    ingest(home, folder, table)
    report = ingest(home, folder)
    assert (report.accepted, report.duplicates, report.waiting, report.conflicts) == (1, 2, 1, 0)
    table.write_text("accession,label\n100,malignant\n")
    assert ingest(home, folder, table).conflicts == 2
    assert kept(home) == [("Ann", "benign"), ("Ann", "benign"), ("Bob", "")]


@pytest.mark.parametrize("identifier", ["", "UNKNOWN", "An\u200bn"])
def test_an_object_that_names_nobody_is_set_aside(home: NodeHome, tmp_path: Path, identifier: str) -> None:
    dataset: Any = named(1, "x", "100")
    dataset.SpecificCharacterSet, dataset.PatientID = "ISO_IR 192", identifier
    save(dataset, tmp_path / "in" / "a.dcm")
    save(named(2, "Ann", "100"), tmp_path / "in" / "b.dcm")
    report = ingest(home, tmp_path / "in")
    assert [entry.source for entry in report.quarantined] == ["a.dcm"]
    assert kept(home) == [("Ann", "")]


def test_a_broken_file_is_named_once(home: NodeHome, folder: Path) -> None:
    (folder / "pacs" / "IM4").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    report = ingest(home, folder)
    assert [entry.source for entry in report.quarantined] == ["pacs/IM4"]
    assert "pacs/IM4" not in report.unlisted
    assert report.accepted == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accession,label\n,benign\n", "line 2: it names nothing"),
        ("accession,study,label\n1,2,benign\n", "line 2: it names study, accession"),
        ("accession,label\n1,benign\n1,benign\n", "line 3: its accession is that of line 2"),
        ("accession,patient,label\n1,,benign\n", "line 2: patient is blank"),
        ("accession,label\n1,\n", "line 2: label is blank"),
        ('accession,label,box\n1,benign,"1,2,3,4"\n', "a box is of one picture"),
        ("accession,label,frame\n1,benign,2\n", "a frame is of one clip"),
        ("sop,label,frame\n1.2,benign,0\n", "line 2: column frame"),
        ("accession,label,mask\n1,benign,m.png\n", "a mask is of one file"),
        ("accession,label\n", "no row"),
        ("accession,class\n1,benign\n", "no column label"),
    ],
)
def test_what_is_wrong_with_such_a_table_is_said(home: NodeHome, folder: Path, text: str, message: str) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        ingest(home, folder)


def test_a_folder_without_labels_and_without_headers_is_refused(home: NodeHome, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save_png(tmp_path / "in" / "a.png", speckle(1) / 255)
    with pytest.raises(InputError, match="holds none of"):
        ingest(home, tmp_path / "in")


def test_a_region_is_told_where_the_file_has_none(home: NodeHome, tmp_path: Path) -> None:
    bare, marked = named(1, "Ann", "100"), named(2, "Ann", "200")
    del bare.SequenceOfUltrasoundRegions
    for seed, dataset in ((1, bare), (2, marked)):
        save(dataset, tmp_path / "in" / f"{seed}.dcm")
    (tmp_path / "in" / "labels.csv").write_text(
        'accession,label,region\n100,benign,"20,10,64,48"\n200,benign,"20,10,64,48"\n'
    )
    assert ingest(home, tmp_path / "in").accepted == 2
    own = (REGION[3] - REGION[1] + 1, REGION[2] - REGION[0] + 1)
    told = {image.pixels.shape: image.pixels for _, image in plain_vault(home)}
    assert set(told) == {(48, 64), own}
    assert np.array_equal(told[48, 64], speckle(1)[10:58, 20:84])
    read = read_file(tmp_path / "in" / "1.dcm", region=Box(20, 10, 64, 48))
    assert np.array_equal(read.pixels, told[48, 64])


@pytest.mark.parametrize(
    ("region", "reason"), [("100,10,64,48", Reason.REGION_OUTSIDE), ("20,10,64,4", Reason.REGION_SMALL)]
)
def test_a_region_that_cannot_be_is_set_aside(home: NodeHome, tmp_path: Path, region: str, reason: Reason) -> None:
    (tmp_path / "in").mkdir()
    save_png(tmp_path / "in" / "a.png", speckle(1) / 255)
    (tmp_path / "in" / "labels.csv").write_text(f'image,patient,label,region\na.png,x,benign,"{region}"\n')
    assert [entry.reason for entry in ingest(home, tmp_path / "in").quarantined] == [reason.value]


def test_a_region_that_is_none_is_refused(home: NodeHome, folder: Path) -> None:
    (folder / "labels.csv").write_text('accession,label,region\n100,benign,"1,2,3"\n')
    with pytest.raises(InputError, match="line 2: column region"):
        ingest(home, folder)


def test_the_box_of_a_clip_is_of_the_frame_that_its_row_names(home: NodeHome, tmp_path: Path) -> None:
    loop = named(1, "Ann", "100")
    frames = [speckle(seed) for seed in (5, 6, 7)]
    loop.NumberOfFrames, loop.PixelData = len(frames), b"".join(frame.tobytes() for frame in frames)
    save(loop, tmp_path / "in" / "loop")
    table = tmp_path / "in" / "labels.csv"
    table.write_text(f'sop,label,box\n{loop.SOPInstanceUID},benign,"30,20,20,20"\n')
    assert [entry.reason for entry in ingest(home, tmp_path / "in").quarantined] == [Reason.CLIP_LESION.value]
    table.write_text(f'sop,label,box,frame\n{loop.SOPInstanceUID},benign,"30,20,20,20",3\n')
    assert ingest(home, tmp_path / "in").accepted == 1
    ((_, image),) = plain_vault(home)
    assert np.array_equal(image.pixels, frames[2][REGION[1] : REGION[3] + 1, REGION[0] : REGION[2] + 1])
    assert image.box is not None
