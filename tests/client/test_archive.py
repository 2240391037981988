"""ZIP archives: good ones are a folder, hostile ones leave nothing behind."""

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.client.crafted import make_node, plain_vault, save, ultrasound, write_labels

from sonoshare_client.intake.archive import unpacked
from sonoshare_client.intake.ingest import ingest
from sonoshare_shared.errors import InputError

Fill = Callable[[zipfile.ZipFile], None]


def zipped(path: Path, fill: Fill) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.csv", "image,patient,label\n")
        fill(archive)
    return path


def entry(name: str, mode: int = 0, content: bytes = b"x") -> Fill:
    def fill(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content)

    return fill


def both(*names: str) -> Fill:
    def fill(archive: zipfile.ZipFile) -> None:
        for name in names:
            archive.writestr(name, b"x")

    return fill


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("a.dcm", bytes(64 << 20))


HOSTILE: dict[str, tuple[Fill, str]] = {
    "slip": (entry("../evil.dcm"), "leads out of the folder"),
    "slip in the middle": (entry("a/../../evil.dcm"), "leads out of the folder"),
    "root": (entry("/etc/evil"), "leads out of the folder"),
    "backslash": (entry("..\\evil.dcm"), "no plain path"),
    "name too long": (entry("a/" + "x" * 300), "no disk takes"),
    "drive": (entry("C:evil.dcm"), "names a drive"),
    "control": (entry("a\x1b[2J.dcm"), "no plain path"),
    "link": (entry("a.dcm", stat.S_IFLNK | 0o777, b"/etc/passwd"), "a link or a device"),
    "device": (entry("a.dcm", stat.S_IFCHR | 0o600), "a link or a device"),
    "pipe": (entry("a.dcm", stat.S_IFIFO | 0o600), "a link or a device"),
    "case": (both("a/Image.dcm", "a/image.DCM"), "differs in case"),
    "case of a folder": (both("A/1.dcm", "a/2.dcm"), "differs in case"),
    "unicode form": (both("caf\u00e9.dcm", "cafe\u0301.dcm"), "differs in case"),
    "file and folder": (both("a", "a/b.dcm"), "differs in case"),
    "bomb": (bomb, "grows too much"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_case_20_an_archive_that_would_write_elsewhere_or_without_end_is_refused_whole(
    kind: str, tmp_path: Path
) -> None:
    fill, reason = HOSTILE[kind]
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("good.dcm", b"good")
        fill(opened)
    room = tmp_path / "room"
    room.mkdir()
    with pytest.raises(InputError, match=reason) as found, unpacked(archive, room / "unpacked"):
        pytest.fail("it was unpacked")
    assert "evil" not in str(found.value)
    assert [path.name for path in room.iterdir()] in ([], ["unpacked.lock"])
    assert not (tmp_path / "evil.dcm").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_case_20_names_twice_shared_bytes_and_lies_about_lengths_are_refused(tmp_path: Path) -> None:
    twice = zipped(tmp_path / "twice.zip", both("a.dcm", "a.dcm"))
    with pytest.raises(InputError, match="the name of another"), unpacked(twice, tmp_path / "u"):
        pass
    data = zipped(tmp_path / "one.zip", both("a.dcm", "b.dcm")).read_bytes()
    first, second = data.find(b"PK\x01\x02"), data.rfind(b"PK\x01\x02")
    shared = bytearray(data)
    shared[second + 42 : second + 46] = shared[data.find(b"PK\x01\x02", first + 1) + 42 :][:4]
    (tmp_path / "shared.zip").write_bytes(bytes(shared))
    with pytest.raises(InputError, match="share bytes"), unpacked(tmp_path / "shared.zip", tmp_path / "u"):
        pass
    lie = bytearray(data)
    lie[second + 24 : second + 28] = (1000).to_bytes(4, "little")
    (tmp_path / "lie.zip").write_bytes(bytes(lie))
    with pytest.raises(InputError, match="refused"), unpacked(tmp_path / "lie.zip", tmp_path / "u"):
        pass
    (tmp_path / "junk.zip").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="no ZIP file"), unpacked(tmp_path / "junk.zip", tmp_path / "u"):
        pass


@pytest.mark.parametrize("name", [b"\x00a.dcm", b"/\x00.dcm", b"a\x00.dcm"])
def test_a_name_that_is_empty_as_it_is_read_is_refused(name: bytes, tmp_path: Path) -> None:
    """What follows a zero byte is no part of a name for those who read archives."""
    data = zipped(tmp_path / "a.zip", both("Qx.dcm")).read_bytes()
    assert data.count(b"Qx.dcm") == 2
    (tmp_path / "b.zip").write_bytes(data.replace(b"Qx.dcm", name))
    with pytest.raises(InputError, match="no plain path"), unpacked(tmp_path / "b.zip", tmp_path / "u"):
        pytest.fail("it was unpacked")


@pytest.mark.parametrize("place", [0, 7, 40])
def test_a_deflated_entry_that_is_broken_is_no_archive(place: int, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", lambda opened: opened.writestr("a.dcm", bytes(range(256)) * 40))
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        start = opened.infolist()[1].header_offset + 30 + len("a.dcm")
    data[start + place] ^= 0xFF
    (tmp_path / "b.zip").write_bytes(bytes(data))
    with pytest.raises(InputError, match="no ZIP file"), unpacked(tmp_path / "b.zip", tmp_path / "u"):
        pytest.fail("it was unpacked")


def test_an_archive_of_a_folder_is_taken_in_as_the_folder_is_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    save(ultrasound(1), folder / "images" / "a.dcm")
    write_labels(folder, [{"image": "images/a.dcm"}])
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(folder.rglob("*")):
            opened.write(path, path.relative_to(tmp_path))
    home = make_node(tmp_path / "node")
    place = home.state.unpacked_path
    place.mkdir()
    (place / "left").write_bytes(b"by a kill")
    with unpacked(archive, place) as source:
        assert place.stat().st_mode & 0o777 == 0o700
        assert not (place / "left").exists()
        assert ingest(home, source).accepted == 1
    assert not place.exists()
    assert len(plain_vault(home)) == 1
