"""Archives of a role's folder: they come back whole, or not at all."""

import os
import sqlite3
import struct
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sonoshare_shared.backup import archive as module
from sonoshare_shared.backup.archive import Member, read_archive, write_archive
from sonoshare_shared.backup.folder import folder_members, require_alone
from sonoshare_shared.backup.sealing import read_passphrase
from sonoshare_shared.errors import InputError, IntegrityError

PASSPHRASE = "correct horse battery staple"
COST = 14


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "state" / "inner").mkdir(parents=True)
    (folder / "state" / "inner").chmod(0o700)
    (folder / "key").write_bytes(b"secret")
    (folder / "key").chmod(0o600)
    (folder / "large").write_bytes(os.urandom(3_000_000))
    (folder / "state" / "lock").write_bytes(b"")
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        database.execute("CREATE TABLE charge (epsilon REAL)")
        database.execute("INSERT INTO charge VALUES (1.5)")
        database.commit()
    return folder


def put_away(home: Path, out: Path) -> Path:
    members = folder_members(home, databases=("ledger.db",), last=("ledger.db",))
    write_archive(out, members, "hospital", PASSPHRASE, cost=COST)
    return out


def brought_back(archive: Path, into: Path, passphrase: str = PASSPHRASE) -> Path:
    into.mkdir()
    read_archive(archive, "hospital", passphrase, into)
    return into


def test_a_folder_comes_back_with_its_bytes_and_permissions(home: Path, tmp_path: Path) -> None:
    out = put_away(home, tmp_path / "b.sono")
    assert out.stat().st_mode & 0o777 == 0o600
    assert b"secret" not in out.read_bytes()
    back = brought_back(out, tmp_path / "back")
    assert (back / "large").read_bytes() == (home / "large").read_bytes()
    assert (back / "key").stat().st_mode & 0o777 == 0o600
    assert (back / "state" / "inner").stat().st_mode & 0o777 == 0o700
    assert not (back / "state" / "lock").exists()
    with closing(sqlite3.connect(back / "ledger.db")) as database:
        assert database.execute("SELECT epsilon FROM charge").fetchall() == [(1.5,)]


def test_a_database_is_copied_as_it_stood_while_somebody_writes(home: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(home / "ledger.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO charge VALUES (2.5)")
        writer.commit()
        writer.execute("INSERT INTO charge VALUES (3.5)")  # not committed
        back = brought_back(put_away(home, tmp_path / "b.sono"), tmp_path / "back")
    with closing(sqlite3.connect(back / "ledger.db")) as database:
        assert database.execute("SELECT epsilon FROM charge").fetchall() == [(1.5,), (2.5,)]


def hot_journal(of: Path) -> bytes:
    """A journal by which SQLite, once it opens the database beside it, removes the file ``of``."""
    name, magic = os.fsencode(of), bytes.fromhex("d9d505f920a163d7")
    head = (magic + struct.pack(">5I", 0, 1, 2, 512, 4096)).ljust(512, b"\0")
    return head + struct.pack(">I", (1 << 30) // 4096 + 1) + name + struct.pack(">2I", len(name), sum(name)) + magic


def test_what_came_from_elsewhere_is_opened_by_nobody_whatever_its_first_bytes_say(home: Path, tmp_path: Path) -> None:
    inbox = home / "inbox"
    inbox.mkdir()
    with closing(sqlite3.connect(inbox / "scan.dcm")) as database:
        database.execute("CREATE TABLE a (b)")
    (inbox / "scan.dcm-journal").write_bytes(hot_journal(home / "ledger.db"))
    (inbox / "broken.dcm").write_bytes(b"SQLite format 3\0" + os.urandom(9000))
    ledger = (home / "ledger.db").read_bytes()
    back = brought_back(put_away(home, tmp_path / "b.sono"), tmp_path / "back")
    assert (home / "ledger.db").read_bytes() == (back / "ledger.db").read_bytes() == ledger
    assert {path.name: path.read_bytes() for path in (back / "inbox").iterdir()} == {
        path.name: path.read_bytes() for path in inbox.iterdir()
    }


@pytest.mark.parametrize("beside", ["-journal", "-wal", "-shm"])
def test_an_archive_that_puts_a_journal_beside_a_database_is_refused(tmp_path: Path, beside: str) -> None:
    (tmp_path / "ledger.db").write_bytes(b"")
    require_alone(tmp_path, ("ledger.db",))
    (tmp_path / f"ledger.db{beside}").write_bytes(b"")
    with pytest.raises(IntegrityError, match="beside"):
        require_alone(tmp_path, ("ledger.db",))


def test_a_damaged_database_stops_the_backup_in_one_line(home: Path, tmp_path: Path) -> None:
    (home / "ledger.db").write_bytes(b"SQLite format 3\0" + os.urandom(9000))
    with pytest.raises(IntegrityError, match=r"ledger\.db cannot be copied"):
        put_away(home, tmp_path / "b.sono")
    assert not (tmp_path / "b.sono").exists()


def test_a_study_may_be_called_lock(home: Path, tmp_path: Path) -> None:
    (home / "studies" / "lock").mkdir(parents=True)
    (home / "studies" / "lock" / "state.json").write_bytes(b"{}")
    back = brought_back(put_away(home, tmp_path / "b.sono"), tmp_path / "back")
    assert (back / "studies" / "lock" / "state.json").read_bytes() == b"{}"


@pytest.mark.parametrize("place", ["magic", "header", "first chunk", "middle", "last byte"])
def test_a_byte_that_was_flipped_anywhere_is_noticed(home: Path, tmp_path: Path, place: str) -> None:
    out = put_away(home, tmp_path / "b.sono")
    data = bytearray(out.read_bytes())
    header = data.index(b"\n", data.index(b"\n") + 1)
    at = {"magic": 3, "header": header - 5, "first chunk": header + 40, "middle": len(data) // 2, "last byte": -1}
    data[at[place]] ^= 1
    out.write_bytes(data)
    with pytest.raises(IntegrityError):
        brought_back(out, tmp_path / "back")


@pytest.mark.parametrize("change", ["cut", "cut at a chunk", "a chunk twice", "bytes behind"])
def test_an_archive_that_was_cut_or_grew_is_noticed(home: Path, tmp_path: Path, change: str) -> None:
    out = put_away(home, tmp_path / "b.sono")
    data = out.read_bytes()
    start = data.index(b"\n", data.index(b"\n") + 1) + 1
    chunk = (1 << 20) + 16
    out.write_bytes(
        {
            "cut": data[:-100],
            "cut at a chunk": data[: start + chunk],
            "a chunk twice": data[: start + chunk] + data[start:],
            "bytes behind": data + b"more",
        }[change]
    )
    with pytest.raises(IntegrityError):
        brought_back(out, tmp_path / "back")


def test_another_passphrase_and_another_role_are_told_in_one_line(home: Path, tmp_path: Path) -> None:
    out = put_away(home, tmp_path / "b.sono")
    with pytest.raises(IntegrityError, match="another passphrase"):
        brought_back(out, tmp_path / "back", PASSPHRASE + "!")
    with pytest.raises(InputError, match="backup of a hospital"):
        read_archive(out, "coordinator", PASSPHRASE, None)
    with pytest.raises(IntegrityError, match="no backup"):
        read_archive(home / "large", "hospital", PASSPHRASE, None)


def test_a_backup_never_replaces_another_and_follows_no_link(home: Path, tmp_path: Path) -> None:
    out = put_away(home, tmp_path / "b.sono")
    before = out.read_bytes()
    with pytest.raises(InputError, match="exists"):
        put_away(home, out)
    assert out.read_bytes() == before
    (home / "state" / "link").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="is a link"):
        put_away(home, tmp_path / "c.sono")
    assert not (tmp_path / "c.sono").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "inner/../../outside"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    """Only somebody who knows the passphrase can make such an archive; even they cannot write elsewhere."""
    out = tmp_path / "b.sono"
    with pytest.raises(IntegrityError, match="leads elsewhere"):
        write_archive(out, [Member(name, 0o600, 3, (b"bad",))], "hospital", PASSPHRASE, cost=COST)
    assert not out.exists()


def test_a_list_of_files_that_is_nested_without_end_is_a_damaged_backup(tmp_path: Path) -> None:
    said = b"[" * 200_000
    members = [Member(module.MANIFEST, 0o600, len(said), (said,))]
    with pytest.raises(IntegrityError, match="cannot be read"):
        write_archive(tmp_path / "b.sono", members, "hospital", PASSPHRASE, cost=COST)


def test_a_file_that_is_not_in_the_list_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, whole = tmp_path / "b.sono", module._content

    def unlisted(member: Member, written: module.Content) -> object:
        return whole(member, module.Content() if member.name == "extra" else written)

    monkeypatch.setattr(module, "_content", unlisted)
    members = [Member("key", 0o600, 3, (b"key",)), Member("extra", 0o600, 3, (b"bad",))]
    with pytest.raises(IntegrityError, match="not those of its list"):
        write_archive(out, members, "hospital", PASSPHRASE, cost=COST)


def test_a_full_disk_leaves_nothing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarInfo, "tobuf", full)
    with pytest.raises(OSError, match="No space"):
        put_away(home, tmp_path / "b.sono")
    assert [path.name for path in tmp_path.iterdir() if "b.sono" in path.name] == []


@pytest.mark.parametrize(
    ("write", "said"),
    [(lambda path: path.chmod(0o644), "other users"), (lambda path: path.write_text("short\n"), "12 characters")],
)
def test_a_passphrase_file_is_private_and_long_enough(
    tmp_path: Path, write: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "words"
    path.write_text(PASSPHRASE + "\n")
    path.chmod(0o600)
    assert read_passphrase(path) == PASSPHRASE
    write(path)
    with pytest.raises(InputError, match=said):
        read_passphrase(path)


def test_no_two_archives_share_a_key(home: Path, tmp_path: Path) -> None:
    first, second = (put_away(home, tmp_path / name).read_bytes() for name in ("a.sono", "b.sono"))
    assert first[:200] != second[:200]


def test_a_credential_of_systemd_is_taken_though_an_acl_shows_as_bits_of_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "passphrase"
    path.write_text(PASSPHRASE)
    path.chmod(0o440)
    with pytest.raises(InputError, match="other users"):
        read_passphrase(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_passphrase(path) == PASSPHRASE
