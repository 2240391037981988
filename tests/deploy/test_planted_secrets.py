"""A whole consortium's life leaves no secret where it does not belong, whatever the umask.

The worlds of ``conftest`` are made under a umask of 0. Here one goes on to a release, a backup, commands of both roles
and failures; then every file and every word is looked through for what nobody but its owner may have.
"""

import base64
import logging
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.deploy.command import Run, sonoshare
from tests.deploy.in_process import HOSPITALS, World, copied, pipeline
from tests.deploy.umasks import umask

from sonoshare_client.agent import service
from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.consortium.publication import publish_release
from sonoshare_server.release.pipeline import facts_for
from sonoshare_shared.protocol.release import layout

PASSPHRASE = "correct-horse-battery-staple-planted"
IDENTITIES = ("PatientID", "PatientName", "AccessionNumber", "StudyInstanceUID", "SOPInstanceUID")
SHORTEST = 8
"""Shorter ones stand in random bytes by chance."""


@dataclass
class Life:
    world: World
    folder: Path
    archives: dict[str, Path]
    said: str
    codes: list[int]


def key_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.key") if path.is_file()]


def forms(raw: bytes) -> set[bytes]:
    """How bytes may be written down."""
    return {raw, raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw).rstrip(b"=")}


def planted_keys(folder: Path) -> dict[Path, set[bytes]]:
    """Every private key of a consortium, in every form, by the file that may hold it."""
    found: dict[Path, set[bytes]] = {}
    for path in key_files(folder):
        content = path.read_bytes()
        if not content.startswith(b"-----"):
            found[path] = forms(content)
            continue
        body = [line for line in content.splitlines() if line and not line.startswith(b"-----")]
        found[path] = {b"".join(body), *[line for line in body[1:] if len(line) > 2 * SHORTEST]}
        if path.name in {"identity.key", "coordinator.key", "root.key"}:
            found[path] |= forms(load_pem_private_key(content, None).private_bytes_raw())
    return found


def planted_identities(archives: dict[str, Path]) -> set[bytes]:
    """Who the patients are, and what their files are called."""
    found: set[str] = set()
    for archive in archives.values():
        for path in archive.rglob("*.dcm"):
            read = pydicom.dcmread(path, stop_before_pixels=True)
            found |= {str(read.get(name, "")) for name in IDENTITIES} | {path.name}
    assert len(found) > 50
    return {word.encode() for word in found if len(word) >= SHORTEST}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, trained_world: World, archives: dict[str, Path]) -> Life:
    folder = tmp_path_factory.mktemp("life") / "world"
    logged = logging.getLogger()
    lines: list[str] = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda record: lines.append(handler.format(record))
    level = logged.level
    logged.addHandler(handler)
    logged.setLevel(logging.DEBUG)
    try:
        with umask(0):
            world = copied(trained_world, folder)
            runs = list(live(world, folder))
    finally:
        logged.removeHandler(handler)
        logged.setLevel(level)
    said = "\n".join([*lines, *(run.stdout + run.stderr for run in runs)])
    return Life(world, folder, archives, said, [run.returncode for run in runs])


def live(world: World, folder: Path) -> Iterator[Run]:
    """To a release, with failures on the way; then what people ask."""
    steps = pipeline(world)
    steps.draw(lambda done, total: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "decode_frame", leaking(world))
        world.fleet.agents["north"].answer(b"nonsense")
    world.fleet.agents["north"].answer(b"nonsense")
    steps.audit()
    steps.finish(facts_for(world.home, world.study, datetime(2026, 1, 2, tzinfo=UTC)))
    publish_release(world.home, "r1")
    secret = folder / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text(PASSPHRASE + "\n")
    backup = ("backup", "--home", world.home.path, "--out", folder.parent / "backup", "--passphrase-file", secret)
    yield sonoshare("coordinator", *backup)
    wrong = (
        "restore",
        "--home",
        folder.parent / "no",
        "--from",
        folder / "south.vault.key",
        "--passphrase-file",
        secret,
    )
    yield sonoshare("coordinator", *wrong)
    secret.unlink()
    for node in (folder / hospital for hospital in HOSPITALS):
        for verb in ("status", "events", "studies", "ledger"):
            yield sonoshare("hospital", verb, "--home", node)
        yield sonoshare("hospital", "keys", "--home", node)
    for words in (("status",), ("events",), ("study", "status", "--name", "study")):
        yield sonoshare("coordinator", *words, "--home", world.home.path)


def leaking(world: World) -> object:
    """Something that fails with words that nobody may hear."""

    def fail(frame: bytes) -> None:
        raise ValueError(world.nodes["north"].home.vault_key_path.read_bytes().hex())

    return fail


def found_in(life: Life, secrets: set[bytes], *, but: Path | None = None) -> list[Path]:
    """Files that hold one of them."""
    files = [path for path in life.folder.rglob("*") if path.is_file() and path != but]
    return [path for path in files if any(secret in path.read_bytes() for secret in secrets)]


def test_a_private_key_stands_in_its_own_file_and_nowhere_else(life: Life) -> None:
    keys = planted_keys(life.folder)
    assert {path.name for path in keys} >= {"identity.key", "node.key", "coordinator.key", "root.key", "server.key"}
    for path, secrets in keys.items():
        assert any(secret in path.read_bytes().replace(b"\n", b"") for secret in secrets)
        assert not found_in(life, secrets, but=path), path.name
        assert not any(secret in life.said.encode() for secret in secrets), path.name


def test_no_patient_has_a_name_in_any_file_or_word(life: Life) -> None:
    identities = planted_identities(life.archives)
    assert not found_in(life, identities)
    assert not [word for word in identities if word in life.said.encode()]


def test_a_passphrase_is_written_nowhere(life: Life) -> None:
    assert (life.folder.parent / "backup").stat().st_size > 1000
    secrets = forms(PASSPHRASE.encode())
    assert not found_in(life, secrets)
    assert PASSPHRASE not in life.said
    assert not any(secret in (life.folder.parent / "backup").read_bytes() for secret in secrets)


def test_the_life_that_was_looked_through_was_one(life: Life) -> None:
    assert (life.world.home.releases / "r1" / layout.MANIFEST).exists()
    assert life.codes == [0, 1, *[0] * (len(life.codes) - 2)], life.said
    assert "ValueError" in life.said
    assert "r1" in life.said


def open_to_others(folder: Path) -> list[str]:
    """Files that others could reach and read, folders that they could enter, keys that are not 0600."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    wide = [str(folder)] if mode & 0o077 else []
    return wide + [f"{path} {path.stat().st_mode:o}" for path in key_files(folder) if path.stat().st_mode & 0o177]


def test_homes_are_closed_without_any_umask(life: Life) -> None:
    for home in (life.world.home.path, *(life.folder / hospital for hospital in HOSPITALS)):
        assert open_to_others(home) == []
    backup = life.folder.parent / "backup"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_folders_and_keys_are_closed_from_their_first_moment(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        home = create_coordinator(tmp_path / "c", Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001)), ("localhost",))
        node = NodeHome.create(tmp_path / "n", "north")
    assert open_to_others(home.path) == []
    assert open_to_others(node.path) == []
    assert len(key_files(home.path)) == 4
    assert len(key_files(node.path)) == 3


def test_a_commands_files_are_its_users_alone(tmp_path: Path) -> None:
    with umask(0):
        made = sonoshare("coordinator", "init", "--home", tmp_path / "c", "--consortium", "c")
        assert made.returncode == 0
        (tmp_path / "after").touch()
    assert [path for path in (tmp_path / "c").rglob("*") if path.stat().st_mode & 0o077] == []
    assert stat.S_IMODE((tmp_path / "after").stat().st_mode) == 0o666


def test_a_crash_keeps_its_words_to_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(home: Path) -> None:
        raise ValueError("MRN123 Ada Lovelace")

    node = NodeHome.create(tmp_path / "n", "north")
    monkeypatch.setattr(NodeHome, "open", fail)
    ran = sonoshare("hospital", "status", "--home", node.path)
    assert ran.returncode == 1
    assert "unforeseen ValueError" in ran.stderr
    assert "in fail" in ran.stderr
    assert "Lovelace" not in ran.stdout + ran.stderr
