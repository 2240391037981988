"""Every form in which pixels come gives the same picture, and real files of other vendors are judged rightly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import UID, JPEG2000Lossless, RLELossless
from tests.client.crafted import (
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
from tests.client.dicom_changes import colour, inside

from sonoshare_client.intake.ingest import ingest
from sonoshare_shared.science.pictures.reasons import Reason


def encoded(syntax: UID) -> Callable[..., Any]:
    def make(dataset: Any) -> None:
        dataset.compress(syntax, generate_instance_uid=False)

    return make


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
    assert np.array_equal(plain_vault(home)[0][1].pixels, inside(speckle(9)))


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
