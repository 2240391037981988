"""Cases 1 to 13 and 16: what a hospital's archive, or its enemy, hands to intake."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.client.crafted import (
    assert_sound,
    changed,
    make_node,
    plain_vault,
    save,
    speckle,
    ultrasound,
    write_labels,
)
from tests.client.dicom_changes import inside, set_all, take
from tests.client.hostile_dicom import HOSTILE, file_bytes, nested, with_bytes_before

from sonoshare_client.intake.ingest import ingest
from sonoshare_client.intake.reasons import SetAside
from sonoshare_client.intake.report import IngestReport
from sonoshare_client.node.home import NodeHome
from sonoshare_shared.science.pictures.reasons import Reason


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    return make_node(tmp_path_factory.mktemp("node") / "home")


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
    assert np.array_equal(plain_vault(home)[0][1].pixels, inside(speckle(1)))


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
