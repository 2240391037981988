"""A release, a vault and a catalogue of the day when tables began to name cases, and reports points worked out."""

import csv
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.deploy.command import sonoshare

from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.store import Vault
from sonoshare_server.catalogue.migrating import NEWEST
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import open_storage
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout

V5 = Path(__file__).parent / "v5"
ROSTER = V5 / "roster.dsse.json"
THEN = datetime(2026, 11, 29, tzinfo=UTC)


def verified(folder: Path) -> dict[str, object]:
    run = sonoshare("verify", folder, "--roster", ROSTER, "--log-head", V5 / "log.json", "--json")
    said: dict[str, object] = json.loads(run.stdout.splitlines()[-1])
    assert (run.returncode == 0) == said["verified"]
    return said


def test_the_release_with_cases_and_worked_out_points_verifies() -> None:
    said = verified(V5 / "release")
    assert (said["verified"], said["hospitals"]) == (True, ["north", "south"])
    rows = list(csv.DictReader((V5 / "release" / layout.METADATA).read_text().splitlines()))
    assert {row["split"] for row in rows} <= {"train", "validation", "test"}
    assert all(float(row["mm_per_pixel_x"]) > 0 and row["case"] for row in rows)
    report = json.loads((V5 / "release" / layout.PRIVACY_JSON).read_text())
    assert all(hospital["derived"]["likeness"] for hospital in report["hospitals"])


@pytest.mark.parametrize("path", [layout.METADATA, layout.PRIVACY_JSON])
def test_a_changed_table_or_report_is_refused(tmp_path: Path, path: str) -> None:
    shutil.copytree(V5 / "release", tmp_path / "release")
    changed = tmp_path / "release" / path
    changed.write_bytes(changed.read_bytes().replace(b"0", b"1", 1))
    assert verified(tmp_path / "release")["cause"] == "file-digest"


def test_the_vault_holds_its_patients_and_what_was_set_aside(tmp_path: Path) -> None:
    shutil.copytree(V5 / "vault-node", tmp_path / "node")
    (tmp_path / "node" / "vault.key").chmod(0o600)
    with Vault(NodeHome.open(tmp_path / "node")) as vault:
        held = vault.patients()
        assert [
            {"pseudonym": patient.pseudonym, "held_out": patient.held_out, "images": len(patient.images)}
            for patient in held
        ] == json.loads((V5 / "vault-node" / "expected.json").read_text())
        assert all(vault.load(image).pixels.size for patient in held for image in patient.images)
        (item,) = vault.quarantine.items()
        assert item.file.endswith(".dcm")


def test_the_catalogue_opens_and_shows_its_release(tmp_path: Path) -> None:
    shutil.copy(V5 / "catalogue.db", tmp_path / "catalogue.db")
    shutil.copytree(V5 / "release", tmp_path / "releases" / "r1")
    settings = CatalogueSettings(
        database=tmp_path / "catalogue.db", roster=lambda: Envelope.load(ROSTER), clock=lambda: THEN
    )
    stored = open_storage(settings).releases.find("r1")
    assert (stored.state, stored.manifest_digest) == ("published", sha256_file(V5 / "release" / layout.MANIFEST))
    with closing(sqlite3.connect(tmp_path / "catalogue.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone()[0] == NEWEST
