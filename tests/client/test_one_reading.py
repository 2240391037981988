"""One reading of pictures: what intake keeps of a file is what evaluations and audits see of it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import ExifTags, Image
from pydicom import dcmwrite
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from tests.client.crafted import (
    COLUMNS,
    ROWS,
    make_node,
    plain_vault,
    region,
    save,
    speckle,
    ultrasound,
    write_labels,
)

from sonoshare_client.audit.folder import synthetic_files
from sonoshare_client.intake.ingest import ingest, ingest_table
from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.store import Vault
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_deploy.cli.audit import command
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.imaging import mask_to_grid, save_png, to_grid
from sonoshare_shared.science.label_table import LabelTable
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.phantom.dicom_study import write_studies
from sonoshare_shared.science.pictures.reading import KeptPicture, read_file

SIDE, GAP = 64, 8
STORED = {
    ExplicitVRBigEndian: {"little_endian": False, "implicit_vr": False},
    DeflatedExplicitVRLittleEndian: {"little_endian": True, "implicit_vr": False},
}
TRAINED, HELD_OUT = 60, 40


def two_pictures(first: NDArray[np.float32], second: NDArray[np.float32], number: int) -> FileDataset:
    """One screen with two B-mode regions side by side; the patient's lesion is in the second."""
    screen = np.zeros((SIDE, 2 * SIDE + GAP), np.uint8)
    for picture, left in ((first, 0), (second, SIDE + GAP)):
        screen[:, left : left + SIDE] = np.rint(picture * 255)
    dataset = ultrasound(number)
    dataset.Rows, dataset.Columns = screen.shape
    dataset.PixelData = screen.tobytes()
    corners = [(left, 0, left + SIDE - 1, SIDE - 1) for left in (0, SIDE + GAP)]
    dataset.SequenceOfUltrasoundRegions = Sequence([region(corner) for corner in corners])
    return dataset


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients of two pictures each, with a box that says which; ``copies/`` holds what intake keeps of the trained."""
    root = tmp_path_factory.mktemp("two-regions")
    # The first region shows some other breast, shifted so that no two files are alike.
    shown = simulate(TRAINED + HELD_OUT + 1, seed=77, size=SIDE).images
    for name, numbers in (("train", range(TRAINED)), ("held", range(TRAINED, TRAINED + HELD_OUT))):
        (root / name).mkdir()
        with (root / name / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "patient", "label", "box"])
            for number in numbers:
                save(two_pictures(np.roll(shown[-1], number), shown[number], number), root / name / f"{number}.dcm")
                writer.writerow([f"{number}.dcm", f"p{number}", "benign", f"{SIDE + GAP + 20},20,16,16"])
    home = make_node(root / "home")
    assert ingest(home, root / "train").accepted == TRAINED
    (root / "copies").mkdir()
    for number, (_, image) in enumerate(plain_vault(home)):
        save_png(root / "copies" / f"s{number}.png", image.pixels)
    return root


def test_case_64_a_set_that_copies_what_intake_keeps_fails_the_audit(archive: Path) -> None:
    lists = ("--train", str(archive / "train"), "--held-out", str(archive / "held"))
    arguments = [str(archive / "copies"), *lists, "--epsilon-audit", "3", "--json"]
    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert done.exception is None, done.exception
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert (result["verdict"], result["copies"]["patients_flagged"] > TRAINED / 2) == ("FAIL", True)


def as_read(path: Path, masks: tuple[Path, ...], box: Box | None, frame: int | None = None) -> KeptPicture | str:
    """What evaluations and audits read; or why they do not."""
    try:
        return read_file(path, masks, box, frame=frame)
    except InputError as error:
        return f"{error.message.partition(': ')[2]}; {error.remedy}"


def as_taken_in(home: NodeHome, table: LabelTable) -> dict[str, StoredImage | str]:
    """What intake keeps of each row, whose patient is its file's name; or why it does not."""
    report = ingest_table(home, table)
    taken: dict[str, StoredImage | str] = {entry.source: entry.reason for entry in report.quarantined}
    with Vault(home) as vault:
        names = {vault.pseudonym(row.patient): row.patient for row in table}
        for patient in vault.patients():
            (ref,) = patient.images
            taken[names[patient.pseudonym]] = vault.load(ref)
    return taken


def rasters(folder: Path) -> None:
    grey = speckle(1)
    # A tint is no colour over the picture; flow is.
    tinted = np.stack([speckle(2), speckle(2) // 10 * 9, speckle(2) // 10 * 7], axis=-1)
    flow = np.repeat(speckle(3)[:, :, None], 3, axis=2)
    flow[30:60, 40:70, 1:] = 0
    forms = {
        "grey.png": Image.fromarray(grey),
        "deep.png": Image.fromarray(speckle(5).astype(np.uint16) * 200 + 55),
        "one_bit.png": Image.fromarray(speckle(6) > 127),
        "colour.png": Image.fromarray(tinted),
        "flow.png": Image.fromarray(flow),
        "alpha.png": Image.merge("LA", [Image.fromarray(speckle(7)), Image.fromarray(speckle(8))]),
        "palette.png": Image.fromarray(np.stack([speckle(9)] * 3, axis=-1)).quantize(64),
        "grey.jpg": Image.fromarray(speckle(10)),
        "cmyk.jpg": Image.fromarray(np.repeat(speckle(11)[:, :, None], 3, axis=2)).convert("CMYK"),
    }
    for name, picture in forms.items():
        picture.save(folder / name)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 3  # upside down
    Image.fromarray(speckle(14)).save(folder / "turned.jpg", exif=turned)
    Image.fromarray(speckle(15)).save(folder / "bitmap.bmp")
    Image.fromarray(speckle(16)).save(folder / "wrong_name.dcm", format="PNG")
    (folder / "cut.png").write_bytes((folder / "grey.png").read_bytes()[:500])


def flow_in_pixels() -> dict[str, Any]:
    rgb = np.repeat(speckle(71)[:, :, None], 3, axis=2)
    rgb[30:60, 40:70, 1:] = 0
    return {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "PixelData": rgb.tobytes(),
    }


def objects(folder: Path) -> None:
    both = Sequence([region((0, 0, 60, 90)), region((64, 0, 127, 90))])
    # One above the other is no dual view, whose two pictures intake keeps (test_dual_view.py).
    stacked = Sequence([region((0, 0, 127, 42)), region((0, 48, 127, 90))])
    forms: dict[str, dict[str, Any]] = {
        "plain.dcm": {},
        "inverted.dcm": {"PhotometricInterpretation": "MONOCHROME1"},
        "two_regions.dcm": {"SequenceOfUltrasoundRegions": both},
        "two_regions_no_box.dcm": {"SequenceOfUltrasoundRegions": stacked},
        "no_region.dcm": {"SequenceOfUltrasoundRegions": Sequence()},
        "flow.dcm": {"SequenceOfUltrasoundRegions": Sequence([region(), region(data_type=2)])},
        "signed.dcm": {"PixelRepresentation": 1},
        "six_bits.dcm": {"BitsStored": 6, "HighBit": 5},
        "masked.dcm": {},
        "mask_outside.dcm": {},
        "no_suffix": {},
        "capture": {"SOPClassUID": SecondaryCaptureImageStorage},
        "flow_in_pixels.dcm": flow_in_pixels(),
        "window.dcm": {"WindowCenter": "100", "WindowWidth": "120"},
        "three_frames.dcm": {"PixelData": speckle(70).tobytes() * 3},
    }
    for number, (name, values) in enumerate(forms.items()):
        dataset = ultrasound(40 + number)
        for attribute, value in values.items():
            setattr(dataset, attribute, value)
        save(dataset, folder / name)
    for number, syntax in enumerate((ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)):
        dcmwrite(
            folder / f"native_{number}.dcm", ultrasound(80 + number, syntax), force_encoding=True, **STORED[syntax]
        )
    for number, syntax in enumerate((RLELossless, JPEG2000Lossless, JPEGLSLossless)):
        dataset = ultrasound(60 + number)
        if syntax is JPEGLSLossless:
            dataset.PixelData = encapsulate([b"not a code stream"])
            dataset.file_meta.TransferSyntaxUID = syntax
        else:
            dataset.compress(syntax, generate_instance_uid=False)
        save(dataset, folder / f"compressed_{number}.dcm")


def test_what_intake_keeps_is_what_evaluations_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rasters(folder)
    objects(folder)
    inside, outside = np.zeros((2, ROWS, COLUMNS), np.uint8)
    inside[30:50, 40:60] = 1
    outside[2:50, 2:60] = 1
    save_png(folder / "inside.mask.png", inside)
    save_png(folder / "outside.mask.png", outside)
    save_png(folder / "further.mask.png", np.roll(inside, (20, 30), (0, 1)))
    extra = {
        "masked.dcm": {"mask": "inside.mask.png; outside.mask.png"},
        "capture": {"mask": "inside.mask.png;further.mask.png", "box": "30,20,9,9;50,40,9,9"},
        "mask_outside.dcm": {"mask": "outside.mask.png"},
        "two_regions.dcm": {"box": "70,10,20,20"},
        "three_frames.dcm": {"frame": "2", "box": "30,20,9,9"},
        "grey.png": {"box": "5,6,30,20", "mask": "inside.mask.png"},
        "colour.png": {"box": "120,90,30,20"},
    }
    names = sorted(path.name for path in folder.iterdir() if "mask.png" not in path.name)
    write_labels(folder, [{"image": name, "patient": name} | extra.get(name, {}) for name in names])
    table = read_labels(folder)
    taken = as_taken_in(make_node(tmp_path / "home"), table)
    assert len(taken) == len(names) == len(table)
    kept = 0
    for row in table:
        stored, read = taken[row.patient], as_read(row.image, row.masks, row.box, row.frame)
        if isinstance(stored, str) or isinstance(read, str):
            assert stored == read, row.patient
            continue
        assert np.array_equal(stored.pixels, read.pixels), row.patient
        assert stored.box == read.box, row.patient
        assert (stored.mask is None) == (read.mask is None)
        assert stored.mask is None or np.array_equal(stored.mask, read.mask), row.patient
        kept += 1
    assert kept == 20


def test_a_picture_is_turned_as_its_viewers_turn_it(tmp_path: Path) -> None:
    rasters(tmp_path)
    Image.fromarray(speckle(14)).save(tmp_path / "upright.jpg")
    upright, turned = (read_file(tmp_path / name).pixels for name in ("upright.jpg", "turned.jpg"))
    assert np.array_equal(turned, upright[::-1, ::-1])


def test_a_table_on_the_grid_is_what_the_vault_gives_on_the_grid(tmp_path: Path) -> None:
    table = read_labels(write_studies(tmp_path / "in", patients=4, seed=3, size=96, images_per_patient=(1, 1)))
    home = make_node(tmp_path / "home")
    assert ingest_table(home, table).accepted == len(table)
    loaded = load_labelled(table, 32)
    with Vault(home) as vault:
        stored = {patient.pseudonym: vault.load(patient.images[0]) for patient in vault.patients()}
        for number, row in enumerate(table):
            image = stored[vault.pseudonym(row.patient)]
            assert image.mask is not None
            assert image.box is not None
            assert np.array_equal(loaded.images[number], to_grid(image.pixels, 32))
            assert np.array_equal(loaded.masks[number], mask_to_grid(image.mask, 32))
            assert np.array_equal(loaded.boxes[number], np.float32(image.box))  # type: ignore[arg-type]


def test_an_audit_passes_over_no_picture(tmp_path: Path) -> None:
    """A copy under a strange name, or in a strange format, is a copy still."""
    save(ultrasound(3), tmp_path / "IM0001")
    save_png(tmp_path / "a.png", speckle(1))
    assert [file.image.name for file in synthetic_files(tmp_path)] == ["IM0001", "a.png"]
    Image.fromarray(speckle(2)).save(tmp_path / "b.tiff")
    with pytest.raises(InputError, match=r"b\.tiff is of a format that is not read"):
        synthetic_files(tmp_path)
