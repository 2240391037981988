"""Cases 14 and 72: identifiers planted in every corner of an object, and none survives intake.

The oracle is the list of plants: every place gets its own text, and everything that intake leaves behind (vault files,
opened blobs, index, review folder, reports, screens, logs) is searched for every one of them.
"""

import io
import json
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image, ImageDraw, PngImagePlugin
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from tests.client.crafted import (
    COLUMNS,
    REGION,
    ROWS,
    make_node,
    plain_vault,
    save,
    speckle,
    ultrasound,
    write_labels,
)

from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.store import Vault
from sonoshare_deploy.cli.hospital import command

X0, Y0, X1, Y1 = REGION
# Standard attributes of patient, study, series, equipment and image.
TEXTS = [
    "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "PatientAddress", "PatientTelephoneNumbers", "MedicalRecordLocator", "PatientComments",
    "PatientInsurancePlanCodeSequence",
    "AdditionalPatientHistory", "Occupation", "EthnicGroup", "MilitaryRank", "CountryOfResidence", "RegionOfResidence",
    "PatientReligiousPreference", "ResponsiblePerson", "ResponsibleOrganization", "AccessionNumber", "StudyID",
    "StudyDescription", "SeriesDescription", "ProtocolName", "InstitutionName", "InstitutionAddress",
    "InstitutionalDepartmentName", "StationName", "ReferringPhysicianName", "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers", "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName",
    "PhysiciansOfRecord", "RequestingPhysician", "AdmittingDiagnosesDescription", "DeviceSerialNumber", "ImageComments",
    "DerivationDescription", "CurrentPatientLocation", "Manufacturer", "ManufacturerModelName", "SoftwareVersions",
    "ContentCreatorName", "DeidentificationMethod", "PerformedProcedureStepDescription", "RequestedProcedureComments",
]  # fmt: skip
NUMBERS = [
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "ContentDate",
    "StudyTime",
    "AcquisitionDateTime",
    "PatientAge",
]
UIDS = ["StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"]


class Planter:
    """Gives each place its own text and remembers all."""

    def __init__(self) -> None:
        self.plants: dict[str, str] = {}

    def text(self, place: str) -> str:
        return self.plants.setdefault(place, f"QZ{len(self.plants):03d}MUELLER")

    def digits(self, place: str) -> str:
        return self.plants.setdefault(place, f"77{len(self.plants):04d}19")


def planted(dataset: FileDataset, planter: Planter) -> None:
    for keyword in TEXTS:
        if keyword.endswith("Sequence"):
            item = Dataset()
            item.CodeMeaning = planter.text(keyword)
            setattr(dataset, keyword, Sequence([item]))
        else:
            setattr(dataset, keyword, planter.text(keyword))
    for keyword in NUMBERS:
        setattr(dataset, keyword, planter.digits(keyword))
    for keyword in UIDS:
        setattr(dataset, keyword, f"1.2.{planter.digits(keyword)}.3")
    nested_places(dataset, planter)
    private_places(dataset, planter)
    graphic_places(dataset, planter)
    dataset.preamble = planter.text("preamble").encode().ljust(128, b"\0")
    dataset.file_meta.SourceApplicationEntityTitle = planter.text("source AE title")
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"  # type: ignore[assignment]
    dataset.file_meta.PrivateInformation = planter.text("private information").encode()
    dataset.add_new(Tag(0xFFFC, 0xFFFC), "OB", planter.text("trailing padding").encode())


def nested_places(dataset: FileDataset, planter: Planter) -> None:
    inner, outer = Dataset(), Dataset()
    inner.PersonName = planter.text("name, two sequences deep")
    inner.TextValue = planter.text("text, two sequences deep")
    inner.ConceptNameCodeSequence = Sequence([Dataset()])
    outer.ContentSequence = Sequence([inner])
    outer.RequestedProcedureDescription = planter.text("request")
    dataset.RequestAttributesSequence = Sequence([outer])
    original = Dataset()
    modified = Dataset()
    modified.PatientID = planter.text("original attributes")
    original.ModifiedAttributesSequence = Sequence([modified])
    dataset.OriginalAttributesSequence = Sequence([original])
    regions = dataset.SequenceOfUltrasoundRegions[0]
    regions.add_new(Tag(0x0018, 0x9999), "LT", planter.text("inside the region item"))
    block = regions.private_block(0x0031, "ACME", create=True)
    block.add_new(1, "LO", planter.text("private inside the region item"))


def private_places(dataset: FileDataset, planter: Planter) -> None:
    block = dataset.private_block(0x0077, planter.text("private creator"), create=True)
    block.add_new(1, "PN", planter.text("private name"))
    block.add_new(2, "UN", planter.text("private unknown").encode())
    block.add_new(3, "OB", planter.text("private bytes").encode())
    item = Dataset()
    item.PatientName = planter.text("name in a private sequence")
    item.private_block(0x0079, "DEEP", create=True).add_new(1, "LT", planter.text("private in private"))
    block.add_new(4, "SQ", Sequence([item]))
    utf16 = planter.text("private UTF-16").encode("utf-16-le")
    block.add_new(5, "UN", utf16)


def graphic_places(dataset: FileDataset, planter: Planter) -> None:
    dataset.add_new(Tag(0x6000, 0x0010), "US", ROWS)
    dataset.add_new(Tag(0x6000, 0x0011), "US", COLUMNS)
    dataset.add_new(Tag(0x6000, 0x0022), "LO", planter.text("overlay description"))
    dataset.add_new(Tag(0x6000, 0x1500), "LO", planter.text("overlay label"))
    dataset.add_new(Tag(0x6000, 0x3000), "OW", planter.text("overlay data").encode())
    dataset.add_new(Tag(0x5000, 0x0022), "LO", planter.text("curve description"))
    dataset.add_new(Tag(0x5000, 0x3000), "OW", planter.text("curve data").encode())
    dataset.add_new(Tag(0x5000, 0x2600), "SH", planter.text("curve label"))
    icon = Dataset()
    icon.Rows = icon.Columns = 8
    icon.BitsAllocated = 8
    icon.PixelData = planter.text("icon").encode()
    dataset.IconImageSequence = Sequence([icon])
    annotation = Dataset()
    text = Dataset()
    text.UnformattedTextValue = planter.text("graphic annotation")
    annotation.TextObjectSequence = Sequence([text])
    dataset.GraphicAnnotationSequence = Sequence([annotation])
    dataset.PixelData = dataset.PixelData + planter.text("after the pixels").encode() + b"\0"


def burned_in(grey: NDArray[Any]) -> NDArray[Any]:
    """Text drawn outside the region only."""
    screen = Image.fromarray(grey)
    ImageDraw.Draw(screen).text((2, 86), "MUELLER^ANNA 19700101", fill=255)
    drawn = np.asarray(screen).copy()
    drawn[Y0 : Y1 + 1, X0 : X1 + 1] = grey[Y0 : Y1 + 1, X0 : X1 + 1]
    assert (drawn != grey).any()
    return drawn


def png_with_text(path: Path, planter: Planter) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", planter.text("PNG text chunk"))
    info.add_itxt("Author", planter.text("PNG international text chunk"))
    Image.fromarray(speckle(40)).save(path, pnginfo=info)
    with path.open("ab") as file:
        file.write(planter.text("after the end of the PNG").encode())


def jpeg_with_text(path: Path, planter: Planter) -> None:
    picture = Image.fromarray(speckle(41))
    exif = Image.Exif()
    exif[0x010E] = planter.text("EXIF description")
    picture.save(path, quality=95, comment=planter.text("JPEG comment").encode(), exif=exif)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Planter, NodeHome, Any, list[str]]:
    """Everything a hospital runs, on one planted study of each format: planter, node, and all that was printed."""
    folder = tmp_path_factory.mktemp("phi")
    planter, source = Planter(), folder / "in"
    dataset = ultrasound(30)
    dataset.PixelData = burned_in(speckle(30)).tobytes()
    planted(dataset, planter)
    save(dataset, source / "a.dcm")
    png_with_text(source / "b.png", planter)
    jpeg_with_text(source / "c.jpg", planter)
    bad = ultrasound(31)
    planted(bad, planter)
    bad.SequenceOfUltrasoundRegions[0].RegionLocationMaxX1 = 4000
    save(bad, source / "bad.dcm")
    patient = planter.text("patient of labels.csv")
    write_labels(source, [{"image": name, "patient": patient} for name in ("a.dcm", "b.png", "c.jpg", "bad.dcm")])
    home = make_node(folder / "home")
    log, printed = io.StringIO(), []
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    for arguments in (
        ["ingest", str(source), "--home", str(home.path), "--json"],
        ["ingest", str(source), "--home", str(home.path)],
        ["review", "--home", str(home.path), "--out", str(folder / "review")],
        ["status", "--home", str(home.path)],
        ["ledger", "--home", str(home.path)],
    ):
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        printed.append(result.output + result.stderr)
    logging.getLogger().removeHandler(handler)
    printed.append(log.getvalue())
    return planter, home, folder / "review", printed


def survivors(planter: Planter, content: bytes) -> list[Any]:
    lowered = content.lower()
    return sorted(
        place
        for place, plant in planter.plants.items()
        if any(plant.lower().encode(form) in lowered for form in ("utf-8", "utf-16-le", "utf-16-be"))
    )


def test_case_14_the_plants_are_many_and_really_in_the_files(taken: tuple[Planter, NodeHome, Any, list[str]]) -> None:
    planter, home, _, _ = taken
    source = home.path.parent / "in"
    content = b"".join(path.read_bytes() for path in source.iterdir())
    assert len(planter.plants) >= 55 + len(NUMBERS)
    assert len(survivors(planter, content)) == len(planter.plants)


def test_case_14_no_plant_survives_in_any_file_of_the_node(taken: tuple[Planter, NodeHome, Any, list[str]]) -> None:
    planter, home, review, _ = taken
    for path in [*home.path.rglob("*"), *review.rglob("*")]:
        if path.is_file():
            assert survivors(planter, path.read_bytes() + str(path.relative_to(home.path.parent)).encode()) == []


def test_case_14_no_plant_survives_inside_the_sealed_blobs(taken: tuple[Planter, NodeHome, Any, list[str]]) -> None:
    planter, home, _, _ = taken
    with Vault(home) as vault:
        refs = [ref for patient in vault.patients() for ref in patient.images]
        opened = [vault._open(ref.blob, ref.pseudonym) for ref in refs]
    assert len(opened) == 3
    for content in opened:
        assert survivors(planter, content) == []
        (length,) = struct.unpack_from(">I", content)
        attributes = json.loads(content[4 : 4 + length])
        assert set(attributes) == {"shape", "mask", "box", "label", "device", "blanked"}
        assert (attributes["label"], attributes["device"]) == ("benign", "")


def test_case_14_burned_in_text_outside_the_region_is_cut_away(taken: tuple[Planter, NodeHome, Any, list[str]]) -> None:
    _, home, _, _ = taken
    expected = speckle(30)[Y0 : Y1 + 1, X0 : X1 + 1]
    assert any(np.array_equal(image.pixels, expected) for _, image in plain_vault(home))


def test_case_72_nothing_planted_is_printed_or_logged(taken: tuple[Planter, NodeHome, Any, list[str]]) -> None:
    planter, _, _, printed = taken
    assert "region lies outside" in printed[0]
    assert survivors(planter, "\n".join(printed).encode()) == []
