"""A hospital takes a release back by its own signature, whatever its node does at the moment."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.log_parts import Keys, lines

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.node.policy import policy_for
from sonoshare_client.node.revoking import revocation_by
from sonoshare_deploy.cli import hospital_revoke
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.log_index import manifest_entry
from sonoshare_shared.protocol.release.evidence import (
    REVOCATION_PAYLOAD_TYPE,
    Revocation,
    release_entry,
    revocation_entry,
)
from sonoshare_shared.protocol.signed import Signed

NOW = datetime(2026, 11, 28, 17, 5, 4, tzinfo=UTC)
DIGEST = "d" * 64


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    """A node whose copy of the log shows a release that it signed."""
    keys = Keys()
    made = NodeHome.create(tmp_path / "node", "north", policy=policy_for(100))
    entries = lines(manifest_entry("s", "r1", DIGEST), release_entry("r1", DIGEST), release_entry("r2", "e" * 64))
    LogCopy.open(made.state_path).extend(keys.part(entries), keys.coordinator.public)
    return made


def contents(folder: Path) -> dict[Path, str]:
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_what_is_signed_is_the_very_release_the_day_and_the_reason(home: NodeHome) -> None:
    before = contents(home.path)
    signed = revocation_by(home, "r1", " consent withdrawn ", now=NOW)
    said = Signed.opened(Revocation, signed.envelope, home.identity().public, REVOCATION_PAYLOAD_TYPE).document
    assert (said.release, said.manifest_digest, said.by, said.reason) == ("r1", DIGEST, "north", "consent withdrawn")
    assert said.time == NOW.replace(hour=0, minute=0, second=0)
    assert signed.logged == ()
    assert contents(home.path) == before


def test_a_release_that_the_copy_does_not_show_once_needs_its_digest(home: NodeHome) -> None:
    keys = Keys()
    with pytest.raises(InputError, match="no release r9"):
        revocation_by(home, "r9", "why", now=NOW)
    assert revocation_by(home, "r9", "why", now=NOW, manifest_digest=DIGEST).revocation.manifest_digest == DIGEST
    other = NodeHome.create(home.path.parent / "other", "south", policy=policy_for(100))
    twice = lines(release_entry("r1", DIGEST), release_entry("r1", "f" * 64))
    LogCopy.open(other.state_path).extend(keys.part(twice), keys.coordinator.public)
    with pytest.raises(InputError, match="more than one"):
        revocation_by(other, "r1", "why", now=NOW)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 2001])
def test_a_revocation_has_a_reason(home: NodeHome, reason: str) -> None:
    with pytest.raises(InputError, match="reason"):
        revocation_by(home, "r1", reason, now=NOW)


def test_what_the_log_shows_already_is_said(home: NodeHome, tmp_path: Path) -> None:
    keys = Keys()
    signed = revocation_by(home, "r1", "why", now=NOW)
    other = NodeHome.create(tmp_path / "other", "south", policy=policy_for(100))
    entries = lines(release_entry("r1", DIGEST), revocation_entry(signed.revocation, signed.envelope))
    LogCopy.open(other.state_path).extend(keys.part(entries), keys.coordinator.public)
    assert revocation_by(other, "r1", "me too", now=NOW).logged == ("north",)


def test_the_command_writes_the_file_for_the_coordinator(home: NodeHome, tmp_path: Path) -> None:
    from click.testing import CliRunner  # noqa: PLC0415

    out = tmp_path / "r1.dsse.json"
    arguments = ["--home", str(home.path), "--name", "r1", "--reason", "why", "--out", str(out)]
    run = CliRunner().invoke(hospital_revoke.revoke, arguments)
    assert run.exit_code == 0
    assert "signed by north" in run.stdout
    assert b"signatures" in out.read_bytes()
