"""PNG and JPEG folders, masks, boxes and the labels of real archives."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.client.crafted import (
    COLUMNS,
    ROWS,
    assert_sound,
    make_node,
    plain_vault,
    save,
    speckle,
    ultrasound,
    write_labels,
)

from sonoshare_client.intake.ingest import ingest, ingest_table
from sonoshare_client.intake.limits import Limits
from sonoshare_client.intake.reasons import SetAside
from sonoshare_client.intake.report import IngestReport
from sonoshare_client.node.home import NodeHome
from sonoshare_client.own_eyes.review import write_review
from sonoshare_client.vault.store import Vault
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.label_table import LabelTable
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom.dicom_study import write_studies
from sonoshare_shared.science.pictures.reasons import Reason


def disc(rows: int = ROWS, columns: int = COLUMNS, radius: int = 15) -> Any:
    y, x = np.ogrid[:rows, :columns]
    return ((y - rows // 2) ** 2 + (x - columns // 2) ** 2 <= radius**2).astype(np.uint8) * 255


def png(path: Any, pixels: Any, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def grey_16(path: Any) -> None:
    Image.fromarray(speckle(2).astype(np.uint16) * 257).save(path)


def colour(path: Any) -> None:
    png(path, np.repeat(speckle(2)[:, :, None], 3, axis=2))


def palette(path: Any) -> None:
    """Every index is 255 minus the level that its colour shows."""
    picture = Image.fromarray(255 - speckle(2), mode="P")
    picture.putpalette([level for index in range(256) for level in (255 - index,) * 3])
    picture.save(path)


def with_alpha(path: Any) -> None:
    Image.merge("LA", [Image.fromarray(speckle(2)), Image.fromarray(speckle(3))]).save(path)


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return make_node(tmp_path / "home")


def reasons(report: IngestReport) -> dict[Any, Any]:
    return {entry.source: entry.reason for entry in report.quarantined}


def test_every_png_form_gives_the_same_grey_levels(home: NodeHome, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    makers = {"grey": lambda path: png(path, speckle(2)), "16": grey_16, "rgb": colour, "p": palette, "la": with_alpha}
    for name, make in makers.items():
        make(folder / f"{name}.png")
    write_labels(folder, [{"image": f"{name}.png", "patient": "P"} for name in makers])
    report = ingest(home, folder)
    assert (report.accepted, report.duplicates, reasons(report)) == (1, len(makers) - 1, {})


def bomb(path: Any) -> None:
    Image.new("1", (30_000, 30_000)).save(path)


def cut(path: Any) -> None:
    png(path, speckle(2))
    path.write_bytes(path.read_bytes()[:-4000])


def animated(path: Any) -> None:
    frames = [Image.fromarray(speckle(seed)) for seed in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def test_pictures_that_cannot_be_taken_have_their_reasons(home: NodeHome, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    bad = {
        "bomb.png": (bomb, Reason.DIMENSIONS),
        "cut.png": (cut, Reason.BROKEN),
        "animated.png": (animated, Reason.ANIMATED),
        "gif.png": (lambda path: path.write_bytes(b"GIF89a" + b"\0" * 99), Reason.UNKNOWN_FORMAT),
        "magic.png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), Reason.BROKEN),
        "magic.jpg": (lambda path: path.write_bytes(b"\xff\xd8\xff" + b"\0" * 99), Reason.BROKEN),
    }
    for name, (make, _) in bad.items():
        make(folder / name)
    png(folder / "good.jpg", speckle(4), quality=95)
    write_labels(folder, [{"image": name} for name in [*bad, "good.jpg"]])
    report = ingest(home, folder)
    assert reasons(report) == {name: reason.value for name, (_, reason) in bad.items()}
    assert report.accepted == 1


def test_masks_and_boxes_follow_the_region_or_are_refused(home: NodeHome, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    rows = {
        "mask": {"mask": "disc.png"},
        "deep_mask": {"mask": "deep.png"},
        "mask_and_box": {"mask": "disc.png", "box": "40,30,44,36"},
        "no_lesion": {"mask": "nothing.png"},
        "small": {"mask": "small.png"},
        "wide": {"mask": "wide.png"},
        "not_a_mask": {"mask": "labels.csv"},
        "empty_box": {"box": "130,10,5,5"},
    }
    png(folder / "disc.png", disc())
    png(folder / "deep.png", (disc() > 0).astype(np.uint16))  # 16 bits, of which one is used
    png(folder / "nothing.png", np.zeros((ROWS, COLUMNS), np.uint8))
    png(folder / "small.png", disc(40, 40))
    png(folder / "wide.png", disc(radius=60))
    for number, name in enumerate(rows):
        save(ultrasound(60 + number), folder / f"{name}.dcm")
    write_labels(folder, [{"image": f"{name}.dcm", "patient": name} | row for name, row in rows.items()])
    report = ingest(home, folder)
    assert reasons(report) == {
        "small.dcm": Reason.MASK_SIZE.value,
        "wide.dcm": Reason.MASK_OUTSIDE.value,
        "not_a_mask.dcm": Reason.MASK_UNREADABLE.value,
        "empty_box.dcm": Reason.BOX.value,
    }
    with Vault(home) as vault:
        kept = {
            name: vault.load(patient.images[0])
            for name in rows
            for patient in vault.patients()
            if patient.pseudonym == vault.pseudonym(name)
        }
    assert np.array_equal(kept["mask"].mask, disc()[8:88, 16:112] // 255)
    assert np.array_equal(kept["deep_mask"].mask, kept["mask"].mask)
    # The disc spans columns 49..79 and rows 33..63 of the screen; the region begins at column 16 and row 8.
    assert kept["mask"].box == pytest.approx((33 / 96, 25 / 80, 31 / 96, 31 / 80))
    assert kept["mask_and_box"].box == pytest.approx((24 / 96, 22 / 80, 44 / 96, 36 / 80))
    assert kept["no_lesion"].box is None
    assert not kept["no_lesion"].mask.any()


def test_labels_that_are_no_plain_text_and_unknown_classes_are_set_aside(home: NodeHome, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(3):
        png(folder / f"{number}.png", speckle(number))
    write_labels(
        folder,
        [{"image": "0.png", "label": "x" * 65}, {"image": "1.png", "label": "strange"}, {"image": "2.png"}],
    )
    report = ingest_table(home, read_labels(folder), classes=("benign", "malignant"))
    assert reasons(report) == {"0.png": SetAside.LABEL.value, "1.png": SetAside.UNKNOWN_CLASS.value}
    assert report.accepted == 1


def test_twins_under_two_patients_are_reported_before_any_training(home: NodeHome, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a", "b", "c"):
        png(folder / f"{name}.png", speckle(1))
    write_labels(
        folder,
        [
            {"image": "a.png", "patient": "one"},
            {"image": "b.png", "patient": "two"},
            {"image": "c.png", "patient": "one", "label": "malignant"},
        ],
    )
    report = ingest(home, folder)
    assert (report.accepted, report.conflicts) == (1, 2)
    assert reasons(report) == {"b.png": SetAside.OTHER_PATIENT.value, "c.png": SetAside.OTHER_CLASS.value}


def test_a_second_intake_adds_only_what_is_new_and_counts_what_no_row_names(home: NodeHome, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(4):
        png(folder / f"{number}.png", speckle(number))
    write_labels(folder, [{"image": f"{number}.png", "patient": "P"} for number in range(3)])
    assert ingest(home, folder).unlisted == ("3.png",)
    write_labels(folder, [{"image": f"{number}.png", "patient": "P"} for number in range(4)])
    report = ingest(home, folder)
    assert (report.accepted, report.duplicates, report.unlisted, report.patients) == (1, 3, (), 1)


def test_memory_limit_of_a_child_leaves_room_for_the_largest_picture(home: NodeHome, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    side = Limits().side
    png(folder / "large.png", np.repeat(speckle(1, side, side)[:, :, None], 3, axis=2), compress_level=1)
    write_labels(folder, [{"image": "large.png"}])
    assert ingest(home, folder).accepted == 1


def test_phantom_studies_are_taken_in_whole_and_fast(
    home: NodeHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_studies(tmp_path / "in", patients=40, seed=1)
    began = time.monotonic()
    report = ingest(home, tmp_path / "in")
    seconds = time.monotonic() - began
    table = read_labels(tmp_path / "in")
    assert (report.accepted, report.patients, report.quarantined) == (len(table), 40, ())
    assert {image.device for _, image in plain_vault(home)} <= set(table.devices)
    assert all(image.mask is not None and image.box is not None for _, image in plain_vault(home))
    with capsys.disabled():
        print(f"\n[intake: {report.accepted / seconds:.0f} phantom DICOM images/s with one child]", end=" ")  # noqa: T201 - a figure to read


def test_busbra_is_taken_in_as_it_is_with_its_wrong_sizes(busbra: Path, home: NodeHome) -> None:
    table = read_labels(busbra)
    names = {"bus_0856-l", "bus_0857-r", "bus_0912-l", "bus_0990-l"}
    some = LabelTable(table.folder, tuple(row for row in table if row.image.stem in names) + table.rows[:6])
    report = ingest_table(home, some)
    assert (report.accepted, report.quarantined) == (10, ())
    assert {(384, 393)} & {image.pixels.shape[::-1] for _, image in plain_vault(home)}


def test_review_shows_exactly_what_is_kept(home: NodeHome, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(ultrasound(1), folder / "x.dcm")
    png(folder / "m.png", disc())
    write_labels(folder, [{"image": "x.dcm", "patient": "Ann", "mask": "m.png"}])
    ingest(home, folder)
    out = tmp_path / "out"
    with Vault(home) as vault:
        assert write_review(vault, out) == 1
        with pytest.raises(InputError, match="in use"):
            write_review(vault, out)
        pseudonym = vault.pseudonym("Ann")
    names = ["000001-mask.png", "000001.png", "attributes.json", "sheet-01-001.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    (entry,) = json.loads((out / "attributes.json").read_text())
    kept = {"image", "mask", "sheet", "patient", "held_out", "label", "device", "box", "blanked", "width", "height"}
    assert set(entry) == kept
    assert (entry["patient"], entry["label"], entry["width"], entry["height"]) == (pseudonym, "benign", 96, 80)
    with Image.open(out / "000001.png") as picture:
        assert np.array_equal(np.asarray(picture), speckle(1)[8:88, 16:112])
    assert_sound(home, 1)
