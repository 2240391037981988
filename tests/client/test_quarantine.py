"""What was set aside is kept sealed, shown, and let in by a person where a person may decide; and forgotten."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.client.crafted import assert_sound, make_node, nearly_blank, save, speckle, ultrasound, write_labels
from tests.shared.screens import tissue
from tests.shared.written import Written, write

from sonoshare_client.intake.accepting import ACCEPTABLE
from sonoshare_client.intake.again import Rechecked, Tried, recheck, try_again
from sonoshare_client.intake.deciding import accept, drop, forget_patient, show
from sonoshare_client.intake.ingest import ingest
from sonoshare_client.intake.reasons import SetAside
from sonoshare_client.intake.rules import RULES, rules_of
from sonoshare_client.node.home import NodeHome
from sonoshare_client.sources.inbox import Inbox
from sonoshare_client.vault.quarantine import Item
from sonoshare_client.vault.store import Vault, rule_counts
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.pictures.bounds import DEFAULT_BOUNDS
from sonoshare_shared.science.pictures.reasons import Reason


def items(home: NodeHome) -> tuple[Item, ...]:
    with Vault(home) as vault:
        return vault.quarantine.items()


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return make_node(tmp_path / "node")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture that is nearly blank, junk, and a good one."""
    nearly_blank(tmp_path / "in" / "cyst.png")
    (tmp_path / "in" / "junk.dcm").write_bytes(b"junk")
    save(ultrasound(1), tmp_path / "in" / "good.dcm")
    names = ("cyst.png", "junk.dcm", "good.dcm")
    write_labels(tmp_path / "in", [{"image": name, "patient": f"Ann {name}"} for name in names])
    return tmp_path / "in"


def test_what_was_set_aside_is_accepted_once_for_this_file_and_stays_accepted(home: NodeHome, folder: Path) -> None:
    assert ingest(home, folder).accepted == 1
    cyst, junk = items(home)
    assert [(item.file, item.line, item.reason) for item in (cyst, junk)] == [
        ("cyst.png", 2, "BLANK"),
        ("junk.dcm", 3, "UNKNOWN_FORMAT"),
    ]
    assert ingest(home, folder).duplicates == 1
    assert items(home) == (cyst, junk), "again is the same"
    report = accept(home, cyst.number, note="a cyst")
    assert report is not None
    assert (report.accepted, report.quarantined) == (1, ())
    decided = items(home)[0]
    assert (decided.waiting, decided.accepted, decided.note, len(decided.pictures)) == (False, ("BLANK",), "a cyst", 1)
    again = ingest(home, folder)
    assert (again.accepted, again.duplicates, len(again.quarantined)) == (0, 2, 1)
    with Vault(home) as vault:
        assert {patient.pseudonym for patient in vault.patients()} == {
            vault.pseudonym(f"Ann {name}") for name in ("cyst.png", "good.dcm")
        }
    with pytest.raises(InputError, match="does not wait"):
        accept(home, cyst.number)
    # Another file of the same name is judged anew.
    nearly_blank(folder / "cyst.png", level=30)
    assert [one.source for one in ingest(home, folder).quarantined] == ["cyst.png", "junk.dcm"]
    assert [item.waiting for item in items(home)] == [False, True, True]


def test_nobody_accepts_what_is_unsafe_gone_or_exchanged(home: NodeHome, folder: Path, tmp_path: Path) -> None:
    ingest(home, folder)
    cyst, junk = items(home)
    with pytest.raises(InputError, match="nobody may accept item 2: neither DICOM"):
        accept(home, junk.number)
    with pytest.raises(InputError, match="nothing of number 7 is set aside"):
        accept(home, 7)
    with pytest.raises(InputError, match="cannot be shown: neither DICOM"):
        show(home, junk.number, tmp_path / "junk.png")
    nearly_blank(folder / "cyst.png", level=30)
    for call in (lambda: accept(home, cyst.number), lambda: show(home, cyst.number, tmp_path / "x.png")):
        with pytest.raises(InputError, match="another than the one that was set aside"):
            call()
    (folder / "cyst.png").unlink()
    with pytest.raises(InputError, match="the file of item 1 is gone"):
        accept(home, cyst.number)
    assert items(home) == (cyst, junk)
    assert drop(home, cyst.number) is False
    assert items(home) == (junk,)
    assert_sound(home, 1)


def test_only_a_closed_list_may_be_accepted() -> None:
    assert {reason.name for reason in ACCEPTABLE} == {
        *("BLANK", "FEW_LEVELS", "SHAPE", "COLOUR", "COLOUR_FLOW"),
        *("TEXT_OVER_LESION", "TEXT_COVERS", "TEXT_REMAINS", "NO_REGION", "SEVERAL_REGIONS"),
    }
    assert not ACCEPTABLE & set(SetAside)


def test_what_is_shown_is_the_whole_screen_readable_by_its_owner_alone(home: NodeHome, folder: Path) -> None:
    ingest(home, folder)
    out = folder / "look.png"
    assert show(home, 1, out).file == "cyst.png"
    with Image.open(out) as shown, Image.open(folder / "cyst.png") as source:
        assert np.array_equal(np.asarray(shown), np.asarray(source))
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="exists"):
        show(home, 1, out)


def test_a_screen_without_a_region_is_let_in_by_who_says_where_the_picture_is(home: NodeHome, tmp_path: Path) -> None:
    screen = ultrasound(5)
    del screen.SequenceOfUltrasoundRegions
    pixels = np.zeros((96, 128), np.uint8)
    for left in (4, 36, 68, 100):  # four pictures, and nothing says which
        pixels[8:88, left : left + 24] = speckle(left, 80, 24)
    screen.PixelData = pixels.tobytes()
    save(screen, tmp_path / "in" / "a.dcm")
    write_labels(tmp_path / "in", [{"image": "a.dcm"}])
    ingest(home, tmp_path / "in")
    (item,) = items(home)
    assert item.reason == "NO_REGION"
    with pytest.raises(InputError, match=r"--region X,Y,W,H"):
        accept(home, item.number)
    report = accept(home, item.number, region=Box(4, 8, 56, 80))
    assert report is not None
    assert (report.accepted, report.quarantined) == (1, ())
    assert ingest(home, tmp_path / "in").duplicates == 1


def test_text_over_a_lesion_is_let_in_by_who_has_looked_and_other_text_is_still_taken_out(
    home: NodeHome, tmp_path: Path
) -> None:
    over, beside = Written("12.03.1962", size=18), Written("MUSTERFRAU, ANNA", size=18)
    picture = write(write(tissue(420, 360, 1), over, 150, 150), beside, 20, 320)
    (tmp_path / "in").mkdir()
    Image.fromarray(picture).save(tmp_path / "in" / "a.png")
    write_labels(tmp_path / "in", [{"image": "a.png", "box": "140,140,140,60"}])
    assert [one.reason for one in ingest(home, tmp_path / "in").quarantined] == [Reason.TEXT_OVER_LESION.value]
    (item,) = items(home)
    report = accept(home, item.number, note="a measurement")
    assert report is not None
    assert (report.accepted, items(home)[0].accepted) == (1, ("TEXT_OVER_LESION",))
    with Vault(home) as vault:
        ((image,),) = (patient.images for patient in vault.patients())
        kept = vault.load(image).pixels
    height, width = kept.shape
    was = np.asarray(Image.fromarray(picture).resize((width, height)), np.int16)
    changed = np.abs(np.asarray(kept, np.int16) - was) > 60
    assert changed[int(height * 0.85) :].sum() > 20, "the name below is gone"


def test_nothing_of_a_record_can_be_read_without_the_key_and_forget_takes_it_along(
    home: NodeHome, folder: Path
) -> None:
    ingest(home, folder)
    seen = b"".join(path.read_bytes() for path in home.vault_path.rglob("*") if path.is_file())
    assert not [word for word in (b"cyst", b"BLANK", b"benign", b"Ann") if word in seen]
    with Vault(home) as vault, vault.writing() as writer:
        assert forget_patient(home, vault, writer, "Ann cyst.png") == (0, 1)
        assert forget_patient(home, vault, writer, "Ann cyst.png") == (0, 0)
    assert [item.file for item in items(home)] == ["junk.dcm"]
    with closing(sqlite3.connect(home.vault_path / "index.db")) as index:
        index.execute("UPDATE quarantine SET number = 9")
        index.commit()
    with pytest.raises(Exception, match="does not open"):
        items(home)


def test_what_came_by_network_leaves_the_inbox_when_it_is_dropped_or_forgotten(home: NodeHome, tmp_path: Path) -> None:
    paths = []
    for number, seed in enumerate((3, 4)):
        picture = ultrasound(seed)
        picture.PatientID = f"P-{number}"
        picture.PixelData = np.full((96, 128), 9, np.uint8).tobytes()
        data = save(picture, tmp_path / f"{seed}.dcm").read_bytes()
        paths.append(Inbox(home.inbox_path, 1 << 24, "receive").put(data))
    ingest(home, home.inbox_path)
    by_name = {item.file: item for item in items(home)}
    assert drop(home, by_name[paths[0].name].number) is True
    with Vault(home) as vault, vault.writing() as writer:
        assert forget_patient(home, vault, writer, "P-1") == (0, 1)
    assert not [path for path in paths if path.exists()]
    assert items(home) == ()


def test_after_a_rule_changed_pictures_of_older_rules_are_held_against_todays(home: NodeHome, folder: Path) -> None:
    ingest(home, folder)
    accept(home, 1)
    now = rules_of(home.policy().intake)
    assert rule_counts(home, now) is not None
    with Vault(home) as vault:
        (before,) = [ref for ref in vault.images() if vault.pseudonym("Ann good.dcm") == ref.pseudonym]
        (let_in,) = [ref for ref in vault.images() if ref != before]
        assert vault.taken_before(RULES) == ()
    # The good one is exchanged for a blank one, as if today's rules had come after it.
    with Vault(home) as vault, vault.writing() as writer:
        image = vault.load(before)
        writer.forget(before.pseudonym)
        blank = np.full_like(image.pixels, 9)
        writer.add("Ann good.dcm", type(image)(blank, None, None, image.label, ""))
    counts = rule_counts(home, now)
    assert counts is not None
    assert (counts.waiting, counts.older, counts.other_policy) == (1, 1, 0)
    assert recheck(home) == Rechecked(passed=0, aside=1)
    with Vault(home) as vault:
        assert vault.images() == (let_in,), "what a person let in is not asked about again"
        generation = vault.generation()
    aside = items(home)[-1]
    assert (aside.reason, aside.waiting, aside.file) == ("BLANK", True, "")
    assert recheck(home, rules=RULES + 1) == Rechecked(passed=1), "a decision holds under newer rules, too"
    assert accept(home, aside.number) is None
    with Vault(home) as vault:
        assert len(vault.images()) == 2
        assert vault.compared() == 2
        assert vault.generation() > generation
    assert_sound(home, 2)


def test_what_was_set_aside_is_tried_again_by_its_row(home: NodeHome, folder: Path) -> None:
    ingest(home, folder, classes=("malignant",))
    assert try_again(home) == Tried(by_row=3)
    ingest(home, folder)
    (folder / "junk.dcm").unlink()
    assert try_again(home) == Tried(aside=1, gone=1)
    save(ultrasound(8), folder / "junk.dcm")
    assert try_again(home) == Tried(taken=1, aside=1)
    assert [item.file for item in items(home)] == ["cyst.png"]


def test_an_archive_is_opened_again_for_who_decides(home: NodeHome, folder: Path, tmp_path: Path) -> None:
    import zipfile  # noqa: PLC0415

    from sonoshare_client.intake.archive import unpacked  # noqa: PLC0415

    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for path in folder.iterdir():
            written.write(path, f"export/{path.name}")
    with unpacked(archive, home.state.unpacked_path) as source:
        ingest(home, source, archive=archive)
    report = accept(home, 1)
    assert report is not None
    assert report.accepted == 1
    archive.unlink()
    with pytest.raises(InputError, match="the archive of item 2 is gone"):
        show(home, 2, tmp_path / "x.png")


def test_whoever_changes_the_bounds_of_a_picture_raises_the_version_of_the_rules() -> None:
    said = sha256_hex(canonical_bytes({name: str(value) for name, value in vars(DEFAULT_BOUNDS).items()}))
    assert (RULES, said[:16]) == (1, "bc2276502e607d90"), (
        "raise RULES (intake/rules.py), and write the digest of these bounds here"
    )
