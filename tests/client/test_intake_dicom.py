"""Cases 1 to 13 and 16: what a hospital's archive, or its enemy, hands to intake."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    MediaStorageDirectoryStorage,
    RLELossless,
)
from tests.client.crafted import (
    COLUMNS,
    REGION,
    ROWS,
    assert_sound,
    changed,
    make_node,
    plain_vault,
    region,
    save,
    speckle,
    ultrasound,
    write_labels,
)

from sonoshare_client.intake.ingest import ingest
from sonoshare_client.intake.reasons import SetAside
from sonoshare_client.intake.report import IngestReport
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import IntakeRules, Policy
from sonoshare_shared.science.pictures.reasons import Reason

X0, Y0, X1, Y1 = REGION


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    return make_node(tmp_path_factory.mktemp("node") / "home")


def take(folder: Path, home: NodeHome, **row: Any) -> str:
    """Take in one file, ``x.dcm``, and return the reason why not, or None."""
    name = row.pop("image", "x.dcm")
    write_labels(folder, [{"image": name, "patient": str(folder), **row}])
    report = ingest(home, folder)
    assert report.accepted + report.duplicates + len(report.quarantined) == 1
    return report.quarantined[0].reason if report.quarantined else None


def set_all(**values: Any) -> Callable[..., Any]:
    def change(dataset: Any) -> None:
        for name, value in values.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)

    return change


def nothing_to_see(regions: Any) -> Callable[..., Any]:
    """A screen of bars and flat grounds, on which no picture is found."""

    def change(dataset: Any) -> None:
        dataset.SequenceOfUltrasoundRegions = Sequence(regions)
        dataset.PixelData = np.repeat(np.arange(ROWS, dtype=np.uint8) // 12 * 20, COLUMNS).tobytes()

    return change


def cornerless() -> Any:
    item = region()
    del item.RegionLocationMaxX1
    return item


def file_bytes(tmp_path: Any, dataset: FileDataset) -> bytes:
    return save(dataset, tmp_path / "made.dcm").read_bytes()


def nested(depth: int) -> bytes:
    """Explicit VR sequences of undefined length, one inside the other."""
    opening = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return opening * depth + closing * depth


def with_bytes_before(data: bytes, tag: tuple[int, int], inserted: bytes) -> bytes:
    """A data set with raw bytes put before one of its elements (little endian, explicit VR)."""
    place = data.index(struct.pack("<HH", *tag), 200)
    return data[:place] + inserted + data[place:]


def deflated_bomb(tmp_path: Any, megabytes: int) -> bytes:
    header = file_bytes(
        tmp_path, changed(lambda d: setattr(d.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian))
    )
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = b"".join(squeezer.compress(b"\0" * (1 << 20)) for _ in range(megabytes)) + squeezer.flush()
    meta_end = 132 + 12 + struct.unpack_from("<I", header, 140)[0]
    return header[:meta_end] + body


def lying_rle(tmp_path: Any) -> bytes:
    def change(dataset: Any) -> None:
        dataset.file_meta.TransferSyntaxUID = RLELossless
        dataset.Rows = dataset.Columns = 65535
        dataset.PixelData = encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 8])
        dataset["PixelData"].is_undefined_length = True

    return file_bytes(tmp_path, changed(change))


def dicomdir(dataset: Any) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    record = region()
    record.ReferencedFileID = ["..", "..", "etc", "passwd"]
    dataset.DirectoryRecordSequence = Sequence([record])


HOSTILE = {
    "case_01_empty": (lambda _: b"", Reason.EMPTY),
    "case_01_junk": (lambda _: b"not a picture" * 40, Reason.UNKNOWN_FORMAT),
    "case_01_junk_after_the_magic": (lambda _: b"\0" * 128 + b"DICM" + b"\xfe" * 400, None),
    "case_02_truncated_pixels": (lambda t: file_bytes(t, ultrasound())[:-3000], None),
    "case_02_short_pixels": (
        lambda t: file_bytes(t, changed(set_all(PixelData=b"\0" * 100))),
        Reason.PIXEL_LENGTH,
    ),
    "case_03_native_65535": (
        lambda t: file_bytes(t, changed(set_all(Rows=65535, Columns=65535))),
        Reason.DIMENSIONS,
    ),
    "case_04_rle_65535": (lying_rle, Reason.DIMENSIONS),
    "case_05_deflated": (lambda t: deflated_bomb(t, 256), Reason.DEFLATED),
    "case_05_deflated_and_broken": (lambda t: deflated_bomb(t, 1)[:-50], Reason.DEFLATED),
    "case_06_frames": (
        lambda t: file_bytes(t, changed(set_all(NumberOfFrames=2**31 - 1))),
        Reason.PIXEL_LENGTH,
    ),
    "case_09_dicomdir": (lambda t: file_bytes(t, changed(dicomdir)), Reason.DIRECTORY),
    "case_11_palette_without_lut": (
        lambda t: file_bytes(t, changed(set_all(PhotometricInterpretation="PALETTE COLOR"))),
        Reason.PALETTE,
    ),
    "case_11_bits_stored": (lambda t: file_bytes(t, changed(set_all(BitsStored=12))), Reason.BITS),
    "case_11_high_bit": (lambda t: file_bytes(t, changed(set_all(HighBit=3))), Reason.BITS),
    "case_11_signed": (lambda t: file_bytes(t, changed(set_all(PixelRepresentation=1))), Reason.BITS),
    "case_11_photometric": (
        lambda t: file_bytes(t, changed(set_all(PhotometricInterpretation="RGB"))),
        Reason.PHOTOMETRIC,
    ),
    "case_11_unknown_photometric": (
        lambda t: file_bytes(t, changed(set_all(PhotometricInterpretation="HSV"))),
        Reason.PHOTOMETRIC,
    ),
    "case_11_no_pixels": (lambda t: file_bytes(t, changed(set_all(PixelData=None))), Reason.NO_PIXELS),
    "case_11_zero_rows": (lambda t: file_bytes(t, changed(set_all(Rows=0))), Reason.DIMENSIONS),
    "case_16_no_regions": (lambda t: file_bytes(t, changed(nothing_to_see(()))), Reason.NO_REGION),
    "case_16_only_a_spectrum": (
        lambda t: file_bytes(t, changed(nothing_to_see([region(spatial=3)]))),
        Reason.NO_REGION,
    ),
    "case_16_outside": (
        lambda t: file_bytes(t, changed(set_all(SequenceOfUltrasoundRegions=Sequence([region((16, 8, 140, 87))])))),
        Reason.REGION_OUTSIDE,
    ),
    "case_16_inside_out": (
        lambda t: file_bytes(t, changed(set_all(SequenceOfUltrasoundRegions=Sequence([region((90, 8, 20, 87))])))),
        Reason.REGION_SMALL,
    ),
    "case_16_without_corners": (lambda t: file_bytes(t, changed(nothing_to_see([cornerless()]))), Reason.NO_REGION),
    "case_16_colour_flow": (
        lambda t: file_bytes(
            t, changed(set_all(SequenceOfUltrasoundRegions=Sequence([region(), region((30, 20, 80, 70), data_type=2)])))
        ),
        Reason.COLOUR_FLOW,
    ),
    "case_16_two_pictures": (
        lambda t: file_bytes(
            t,
            changed(set_all(SequenceOfUltrasoundRegions=Sequence([region((0, 0, 80, 90)), region((40, 0, 120, 90))]))),
        ),
        Reason.SEVERAL_REGIONS,
    ),
    "not_ultrasound": (
        lambda t: file_bytes(t, changed(set_all(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))),
        Reason.NOT_ULTRASOUND,
    ),
    "unknown_syntax": (
        lambda t: file_bytes(t, ultrasound()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"),
        Reason.SYNTAX,
    ),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], IngestReport, NodeHome]:
    """All hostile files in one batch between two good ones: reason by case, and the node."""
    folder = tmp_path_factory.mktemp("hostile")
    home = make_node(folder / "home")
    save(ultrasound(200), folder / "in" / "first.dcm")
    for case, (make, _) in HOSTILE.items():
        (folder / case).mkdir()
        (folder / "in" / f"{case}.dcm").write_bytes(make(folder / case))
    save(ultrasound(201), folder / "in" / "last.dcm")
    write_labels(folder / "in", [{"image": f"{case}.dcm"} for case in ["first", *HOSTILE, "last"]])
    report = ingest(home, folder / "in")
    return {Path(entry.source).stem: entry.reason for entry in report.quarantined}, report, home


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_file_is_set_aside_with_its_reason(
    case: str, hostile: tuple[dict[str, str], IngestReport, NodeHome]
) -> None:
    reasons, _, _ = hostile
    _, reason = HOSTILE[case]
    assert reasons[case] in {entry.value for entry in Reason}
    if reason is not None:
        assert reasons[case] == reason.value


def test_case_02_good_files_among_hostile_ones_are_taken_and_no_row_is_partial(
    hostile: tuple[dict[str, str], IngestReport, NodeHome],
) -> None:
    reasons, report, home = hostile
    assert set(reasons) == set(HOSTILE)
    assert report.accepted == 2
    assert_sound(home, 2)


def test_case_01_renamed_png_is_set_aside_and_the_batch_goes_on(node: NodeHome, tmp_path: Path) -> None:
    Image.fromarray(speckle(7)).save(tmp_path / "picture.png")
    (tmp_path / "picture.png").rename(tmp_path / "a.dcm")
    save(ultrasound(100), tmp_path / "b.dcm")
    (tmp_path / "c.dcm").touch()
    save(ultrasound(101), tmp_path / "d.dcm")
    save(ultrasound(102), tmp_path / "e.png")
    write_labels(tmp_path, [{"image": f"{name}.dcm"} for name in "abcd"] + [{"image": "e.png"}])
    report = ingest(node, tmp_path)
    assert report.accepted == 2
    assert {(entry.source, entry.reason) for entry in report.quarantined} == {
        ("a.dcm", Reason.WRONG_NAME.value),
        ("c.dcm", Reason.EMPTY.value),
        ("e.png", Reason.WRONG_NAME.value),
    }


def test_case_07_nesting_is_contained(node: NodeHome, tmp_path: Path) -> None:
    data = file_bytes(tmp_path, ultrasound(103))
    (tmp_path / "x.dcm").write_bytes(with_bytes_before(data, (0x0018, 0x6011), nested(5000)))
    assert take(tmp_path, node) == Reason.NESTING.value


@pytest.mark.parametrize("magic", [b"MZ\x90\0", b"\x7fELF"])
def test_case_08_preamble_is_left_behind(magic: bytes, node: NodeHome, tmp_path: Path) -> None:
    dataset = ultrasound(110 + len(magic) + magic[0])
    dataset.preamble = magic + b"payload" + b"\0" * (128 - 7 - len(magic))
    save(dataset, tmp_path / "x.dcm")
    assert take(tmp_path, node) is None
    stored = (path.read_bytes() for path in node.path.rglob("*") if path.is_file())
    assert not any(b"payload" in content for content in stored)


@pytest.mark.parametrize("uid", ["../../../etc/cron.d/x", "1." + "2" * 10_000, "", "/tmp/x\\y"])  # noqa: S108
def test_case_10_no_name_comes_from_a_uid(uid: str, tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    save(changed(set_all(SOPInstanceUID=uid), seed=1), tmp_path / "in" / "x.dcm")
    before = {path for path in tmp_path.rglob("*") if home.path not in path.parents}
    assert take(tmp_path / "in", home) is None
    names = {path.name for path in (home.vault_path / "blobs").iterdir()}
    assert len(names) == 1
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names)
    after = {path for path in tmp_path.rglob("*") if home.path not in path.parents}
    assert {path.name for path in after - before} == {"labels.csv"}


def test_case_12_same_instance_with_another_picture_is_a_conflict(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    first, second, copy = ultrasound(1), ultrasound(2), ultrasound(1)
    second.SOPInstanceUID = first.SOPInstanceUID
    folder = tmp_path / "in"
    for name, dataset in {"a": first, "b": second, "c": copy}.items():
        save(dataset, folder / f"{name}.dcm")
    write_labels(folder, [{"image": f"{name}.dcm", "patient": "P"} for name in "abc"])
    report = ingest(home, folder)
    assert (report.accepted, report.duplicates, report.conflicts) == (1, 1, 1)
    assert [(entry.source, entry.reason) for entry in report.quarantined] == [("b.dcm", SetAside.OTHER_PICTURE.value)]
    assert np.array_equal(plain_vault(home)[0][1].pixels, speckle(1)[Y0 : Y1 + 1, X0 : X1 + 1])


@pytest.mark.parametrize(
    "change",
    [
        set_all(SpecificCharacterSet="ISO_IR 999", PatientName="Secret^Name"),
        set_all(SpecificCharacterSet=["ISO 2022 IR 87", "nonsense"], PatientName="Secret^Name"),
        set_all(PatientName="Secret" * 11_000),
        set_all(Manufacturer="Secret" * 9_000),
    ],
)
def test_case_13_bad_text_neither_crashes_nor_shows(
    change: Callable[..., Any],
    node: NodeHome,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset = changed(change, seed=int.from_bytes(os.urandom(4), "big"))
    save(dataset, tmp_path / "x.dcm")
    capfd.readouterr()
    assert take(tmp_path, node) is None
    shown = capfd.readouterr()
    assert "Secret" not in shown.out + shown.err + caplog.text


def test_region_is_cut_and_nothing_else_is_kept(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    save(ultrasound(5), tmp_path / "in" / "x.dcm")
    assert take(tmp_path / "in", home, box="26,18,40,30", device="LOGIQ E9 (room 2)") is None
    ((_, image),) = plain_vault(home)
    assert np.array_equal(image.pixels, speckle(5)[Y0 : Y1 + 1, X0 : X1 + 1])
    assert image.box == pytest.approx((10 / 96, 10 / 80, 40 / 96, 30 / 80))
    assert (image.label, image.device, image.mask) == ("benign", "LOGIQ E9 (room 2)", None)


def test_region_that_ends_one_pixel_beyond_is_clipped(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    regions = Sequence([region((16, 8, COLUMNS, ROWS))])
    save(changed(set_all(SequenceOfUltrasoundRegions=regions)), tmp_path / "in" / "x.dcm")
    assert take(tmp_path / "in", home) is None
    assert plain_vault(home)[0][1].pixels.shape == (ROWS - 8, COLUMNS - 16)


def test_box_says_which_of_two_pictures(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    regions = Sequence([region((0, 0, 60, 90)), region((64, 0, 127, 90))])
    save(changed(set_all(SequenceOfUltrasoundRegions=regions)), tmp_path / "in" / "x.dcm")
    assert take(tmp_path / "in", home, box="70,10,20,20") is None
    assert np.array_equal(plain_vault(home)[0][1].pixels, speckle(0)[0:91, 64:128])


@pytest.mark.parametrize("box", ["2,2,20,20", "100,70,40,20", "0,0,128,96"])
def test_box_outside_the_region_is_set_aside(box: str, node: NodeHome, tmp_path: Path) -> None:
    save(ultrasound(6), tmp_path / "x.dcm")
    assert take(tmp_path, node, box=box) == Reason.BOX.value


def test_header_device_is_kept_only_when_well_known_or_approved(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(ultrasound(1), folder / "x.dcm")
    strict = make_node(tmp_path / "strict")
    assert take(folder, strict) is None
    assert plain_vault(strict)[0][1].device == "GE"
    approving = make_node(
        tmp_path / "approving", policy=Policy(intake=IntakeRules(devices=("GE Healthcare LOGIQ E9",)))
    )
    assert take(folder, approving) is None
    assert plain_vault(approving)[0][1].device == "GE Healthcare LOGIQ E9"
    save(changed(set_all(Manufacturer="Jane Doe", ManufacturerModelName="b. 1970"), seed=2), folder / "x.dcm")
    assert take(folder, strict, patient="other") is None
    assert {image.device for _, image in plain_vault(strict)} == {"GE", ""}


def test_a_hospital_may_take_in_pictures_with_colour_over_them(tmp_path: Path) -> None:
    def flow(dataset: Any) -> None:
        colour(dataset)
        rgb = np.repeat(speckle(9)[:, :, None], 3, axis=2)
        rgb[30:60, 40:70] = (200, 40, 20)
        dataset.PixelData = rgb.tobytes()

    def with_a_flow_region(dataset: Any) -> None:
        flow(dataset)
        dataset.SequenceOfUltrasoundRegions = Sequence([region(), region((40, 30, 69, 59), data_type=2)])

    folder = tmp_path / "in"
    for name, change, reason in (("a", flow, Reason.COLOUR), ("b", with_a_flow_region, Reason.COLOUR_FLOW)):
        save(changed(change, seed=9), folder / f"{name}.dcm")
        strict = make_node(tmp_path / f"strict-{name}")
        assert take(folder, strict, image=f"{name}.dcm") == reason.value
        permitting = make_node(tmp_path / name, policy=Policy(intake=IntakeRules(colour=True)))
        assert take(folder, permitting, image=f"{name}.dcm") is None
        assert plain_vault(permitting)[0][1].pixels.shape == (80, 96)


def encoded(syntax: UID) -> Callable[..., Any]:
    def make(dataset: Any) -> None:
        dataset.compress(syntax, generate_instance_uid=False)

    return make


def colour(dataset: Any) -> None:
    grey = speckle(9)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.PixelData = np.repeat(grey[:, :, None], 3, axis=2).tobytes()


def inverted(dataset: Any) -> None:
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.PixelData = (255 - speckle(9)).tobytes()


def twelve_bits_with_an_overlay(dataset: Any) -> None:
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    words = (speckle(9).astype(np.uint16) << 4) | 0xF000
    dataset.PixelData = words.tobytes()
    dataset["PixelData"].VR = "OW"


def palette(dataset: Any) -> None:
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    table = np.arange(255, -1, -1, dtype=np.uint16) * 257
    for name in ("Red", "Green", "Blue"):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{name}PaletteColorLookupTableData", table.tobytes())
    dataset.PixelData = (255 - speckle(9)).tobytes()


def test_every_lossless_form_gives_the_same_grey_levels(tmp_path: Path) -> None:
    home = make_node(tmp_path / "home")
    forms = [encoded(RLELossless), encoded(JPEG2000Lossless), colour, inverted, twelve_bits_with_an_overlay, palette]
    for number, change in enumerate(forms):
        save(changed(change, seed=9), tmp_path / "in" / f"{number}.dcm")
    write_labels(tmp_path / "in", [{"image": f"{number}.dcm", "patient": "P"} for number in range(len(forms))])
    report = ingest(home, tmp_path / "in")
    assert (report.accepted, report.duplicates) == (1, len(forms) - 1)
    assert np.array_equal(plain_vault(home)[0][1].pixels, speckle(9)[Y0 : Y1 + 1, X0 : X1 + 1])


REAL = {
    "JPGLosslessP14SV1_1s_1f_8b.dcm": None,
    "OBXXXX1A.dcm": None,
    "OBXXXX1A_rle.dcm": None,
    "OBXXXX1A_expb.dcm": None,
    "OBXXXX1A_2frame.dcm": None,
    "color3d_jpeg_baseline.dcm": None,
    "examples_palette.dcm": Reason.REGION_OUTSIDE,
    "examples_rgb_color.dcm": Reason.COLOUR,
    "examples_jpeg2k.dcm": Reason.COLOUR,
    "gdcm-US-ALOKA-16.dcm": None,
    "CT_small.dcm": Reason.NOT_ULTRASOUND,
    "image_dfl.dcm": Reason.NOT_ULTRASOUND,
    "no_meta.dcm": Reason.UNKNOWN_FORMAT,
}


def sample(name: str) -> Path:
    """A file that comes with pydicom or pydicom-data; none is fetched."""
    path = get_testdata_file(name, download=False)
    return None if path is None else Path(path)


def test_real_samples_of_pydicom(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    folder.mkdir()
    there = [name for name in REAL if sample(name) is not None]
    for name in there:
        (folder / name).write_bytes(sample(name).read_bytes())
    write_labels(folder, [{"image": name, "patient": "P"} for name in there])
    report = ingest(home, folder)
    given = {entry.source: entry.reason for entry in report.quarantined}
    assert given == {name: REAL[name].value for name in there if REAL[name] is not None}
    assert_sound(home, report.accepted)


OF_TISSUE, OF_A_NAME, OF_A_CHART = (250, 297, 300, 330), (10, 10, 60, 60), (10, 10, 60, 43)


def test_compressed_samples_with_a_region(tmp_path: Path) -> None:
    home, folder = make_node(tmp_path / "home"), tmp_path / "in"
    cut = {"US1_J2KR.dcm": OF_TISSUE, "US1_J2KI.dcm": OF_A_NAME, "SC_rgb_jpeg_gdcm.dcm": OF_A_CHART}
    wanted = {"US1_J2KI.dcm": Reason.TEXT_COVERS.value, "SC_rgb_jpeg_gdcm.dcm": Reason.COLOUR.value}
    names = [name for name in cut if sample(name) is not None]
    for name in names:
        dataset = dcmread(sample(name))
        dataset.SOPClassUID = ultrasound().SOPClassUID
        dataset.SequenceOfUltrasoundRegions = Sequence([region(cut[name])])
        save(dataset, folder / name)
    write_labels(folder, [{"image": name, "patient": name} for name in names])
    report = ingest(home, folder)
    assert {entry.source: entry.reason for entry in report.quarantined} == {
        name: reason for name, reason in wanted.items() if name in names
    }
    assert {image.pixels.shape for _, image in plain_vault(home)} == {(34, 51)}
