"""Documents and databases of earlier days verify with today's code, and for ever."""

import json
import shutil
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.command import sonoshare

from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.store import Vault
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.migrating import NEWEST
from sonoshare_server.catalogue.publishing import publish
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import Storage, open_storage
from sonoshare_shared.errors import NewerVersionError
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.canonical import canonical_bytes, parsed_json, sha256_file, sha256_hex
from sonoshare_shared.protocol.documents import AuditPlan, AuditStatement, LogHead, ReleaseManifest, StudyPlan, Task
from sonoshare_shared.protocol.documents.charge import LedgerExport
from sonoshare_shared.protocol.documents.exchange import (
    TRAIN_REPLY_PAYLOAD_TYPE as TRAIN_REPLY,
)
from sonoshare_shared.protocol.documents.exchange import (
    TrainReply,
)
from sonoshare_shared.protocol.documents.identity_succession import opened_succession
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.roster import Roster
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import LogIndex
from sonoshare_shared.protocol.misconduct import verify_evidence
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.evidence import REVOCATION_PAYLOAD_TYPE, LogView, Revocation
from sonoshare_shared.protocol.release.statements import statement_of
from sonoshare_shared.protocol.release.verify import open_roster, verify_release
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.protocol.translog import require_extension, verified_head

V1 = Path(__file__).parent / "v1"
V2, V4 = V1.with_name("v2"), V1.with_name("v4")
ROSTER = V1 / "roster.dsse.json"
THEN = datetime(2026, 11, 29, tzinfo=UTC)
HEADS = {
    "north": "ba15f5a3a8cf155b6c95d07627a4125540553cded237f1762a716c5360bedd05",
    "south": json.loads((V1 / "ledger-south.json").read_text())["head"],
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: Any, **_fields: Any) -> None:
        raise AssertionError("verification opened a socket")

    monkeypatch.setattr(socket, "socket", refused)


@pytest.fixture
def roster() -> Roster:
    return open_roster(Envelope.load(ROSTER))


@pytest.fixture
def coordinator(roster: Roster) -> PublicKey:
    return PublicKey.from_hex(roster.coordinator_key)


def test_the_command_verifies_the_release_with_the_network_off() -> None:
    run = sonoshare("verify", V1 / "release", "--roster", ROSTER, "--log-head", V1 / "log.json", "--json")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    assert (said["verified"], said["hospitals"]) == (True, ["north", "south"])
    assert said["manifest_digest"] == sha256_file(V1 / "release" / layout.MANIFEST)


def test_the_command_sees_the_revocation() -> None:
    run = sonoshare("verify", V1 / "release", "--roster", ROSTER, "--log-head", V1 / "log-revoked.json", "--json")
    assert run.returncode == 1
    assert json.loads(run.stdout.splitlines()[-1])["cause"] == "revoked"


def test_a_changed_file_of_the_old_release_is_still_refused(tmp_path: Path) -> None:
    shutil.copytree(V1 / "release", tmp_path / "release")
    with (tmp_path / "release" / layout.PLAN).open("ab") as file:
        file.write(b" ")
    run = sonoshare("verify", tmp_path / "release", "--roster", ROSTER, "--json")
    assert json.loads(run.stdout.splitlines()[-1])["cause"] == "file-size"


@pytest.mark.parametrize("hospital", ["north", "south"])
def test_the_command_verifies_exported_ledgers(hospital: str) -> None:
    run = sonoshare("verify", V1 / f"ledger-{hospital}.json", "--roster", ROSTER, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1])["head"] == HEADS[hospital]


@pytest.mark.parametrize("change", ['"purpose": "training round 1"', '"sequence": 3'])
def test_an_old_export_that_was_changed_is_refused(tmp_path: Path, change: str) -> None:
    text = (V1 / "ledger-north.json").read_text()
    assert text.count(change) >= 1
    path = tmp_path / "ledger.json"
    path.write_text(text.replace(change, change.replace("1", "2").replace("3", "4")))
    run = sonoshare("verify", path, "--roster", ROSTER, "--json")
    assert json.loads(run.stdout.splitlines()[-1])["cause"] == "ledger"


def test_a_field_more_in_an_old_export_is_refused(tmp_path: Path, roster: Roster) -> None:
    value = json.loads((V1 / "ledger-north.json").read_text())
    value["entries"][1]["remark"] = "nothing"
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps(value))
    assert sonoshare("verify", path, "--roster", ROSTER).returncode == 1


def test_signed_documents_are_what_they_were(roster: Roster, coordinator: PublicKey) -> None:
    plan = Signed.opened(StudyPlan, Envelope.load(V1 / "plan.dsse.json"), coordinator, PLAN_PAYLOAD_TYPE)
    manifest = ReleaseManifest.from_bytes((V1 / "release" / layout.MANIFEST).read_bytes())
    candidate = Candidate.from_bytes((V1 / "release" / layout.CANDIDATE).read_bytes())
    assert plan.digest == manifest.plan_digest == candidate.plan_digest == plan.document.digest()
    assert candidate.digest() == manifest.candidate_digest
    assert plan.document.digest_of("audit") == roster.audit_policy
    assert AuditPlan.from_bytes((V1 / "audit-policy.json").read_bytes()).digest() == roster.audit_policy
    assert Task.from_bytes((V1 / "task.json").read_bytes()).digest() == plan.document.digest_of("task")
    keys = {entry.id: entry.key for entry in roster.hospitals} | {"coordinator": coordinator}
    revocation = Signed.opened(
        Revocation, Envelope.load(V1 / "revocation.dsse.json"), keys["coordinator"], REVOCATION_PAYLOAD_TYPE
    )
    assert revocation.document.manifest_digest == manifest.digest()
    reply = Signed.opened(TrainReply, Envelope.load(V1 / "train-reply.dsse.json"), keys["north"], TRAIN_REPLY)
    assert (reply.document.hospital, reply.document.round) == ("north", 1)
    # An introduction is asked for anew each time and kept by nobody; that it verifies is enough.
    Envelope.load(V1 / "keys-reply.dsse.json").verify(keys["north"], "application/vnd.sonoshare.keys-reply+json")


@pytest.mark.parametrize("name", ["release/attestations/north", "release/attestations/south", "north/blind"])
def test_figures_of_statements_come_back_as_they_were_signed(roster: Roster, name: str) -> None:
    key = roster.hospital("south" if name.endswith("south") else "north").key
    said = Signed.opened(AuditStatement, Envelope.load(V1 / f"{name}.dsse.json"), key, STATEMENT_PAYLOAD_TYPE)
    figures = said.document.predicate.figures
    assert figures.copies.threshold == 0.66
    assert said.document.predicate.adapter_digest is None
    # Typed figures have the JSON that the untyped ones had, to the byte.
    assert canonical_bytes(figures.model_dump(mode="json", by_alias=True)) == canonical_bytes(
        parsed_json(said.data)["predicate"]["figures"]
    )


def test_the_log_still_extends_itself(coordinator: PublicKey) -> None:
    older, newer = (LogView.from_bytes((V1 / f"{name}.json").read_bytes()) for name in ("log", "log-revoked"))
    proof = json.loads((V1 / "log-consistency.json").read_text())
    old, new = (verified_head(view.head, coordinator) for view in (older, newer))
    assert new.size == old.size + 1
    assert newer.entries[: old.size] == older.entries
    prefix = LogHead(size=proof["first"], root=_root(older.entries[: proof["first"]]), time=THEN)
    require_extension(prefix, old, proof["consistency"])


def test_the_functions_accept_it_at_any_later_day() -> None:
    for now in (THEN, datetime(2100, 1, 1, tzinfo=UTC)):
        verified = verify_release(V1 / "release", Envelope.load(ROSTER), now=now)
        assert verified.manifest.release == "r1"


def test_an_old_export_brought_to_the_new_version_keeps_the_signed_bytes(roster: Roster) -> None:
    export = LedgerExport.from_bytes((V1 / "ledger-north.json").read_bytes())
    charges = export.verify(roster.hospital("north").key)
    assert sha256_hex(export.entries[-1].body.encode()) == charges[-1].digest() == HEADS["north"]
    again = LedgerExport.from_bytes(export.canonical())
    assert again == export


def _root(entries: tuple[str, ...]) -> str:
    return merkle.root([entry.encode() for entry in entries]).hex()


def old_node(folder: Path) -> NodeHome:
    """A copy of the old node, with its key closed to others again, which git does not keep."""
    shutil.copytree(V1 / "vault-node", folder / "node")
    (folder / "node" / "vault.key").chmod(0o600)
    return NodeHome.open(folder / "node")


def test_an_old_vault_opens_and_holds_the_patients_it_held(tmp_path: Path) -> None:
    home = old_node(tmp_path)
    with Vault(home) as vault:
        held = vault.patients()
        expected = json.loads((V1 / "vault-node" / "expected.json").read_text())
        assert [
            {"pseudonym": patient.pseudonym, "held_out": patient.held_out, "images": len(patient.images)}
            for patient in held
        ] == expected
        assert all(vault.load(image).pixels.size for patient in held for image in patient.images)
        assert [patient.pseudonym for patient in vault.enrolled("study")] == [one["pseudonym"] for one in expected]
    assert _version(tmp_path / "node" / "vault" / "index.db") == 4


def test_an_old_catalogue_opens_and_shows_its_release(tmp_path: Path) -> None:
    shutil.copy(V1 / "catalogue.db", tmp_path / "catalogue.db")
    shutil.copytree(V1 / "release", tmp_path / "releases" / "r1")
    storage = _catalogue(tmp_path)
    stored = storage.releases.find("r1")
    assert stored.state == "published"
    assert stored.manifest_digest == sha256_file(V1 / "release" / layout.MANIFEST)
    assert stored.summary["images"] == 16
    assert _version(tmp_path / "catalogue.db") == NEWEST
    # It lay in a folder that is gone; now it is found where the catalogue lies, wherever that is.
    manifest = (V1 / "release" / layout.MANIFEST).read_bytes()
    assert storage.blobs.read(stored.place, layout.MANIFEST, 0, len(manifest)) == manifest


def test_an_old_catalogue_still_finds_a_release_that_lay_elsewhere(tmp_path: Path) -> None:
    shutil.copy(V1 / "catalogue.db", tmp_path / "catalogue.db")
    with closing(sqlite3.connect(tmp_path / "catalogue.db", isolation_level=None)) as database:
        database.execute("UPDATE releases SET bundle = ?", (str(V1 / "release"),))
    assert _catalogue(tmp_path).releases.find("r1").place == str(V1 / "release")


def test_an_old_release_is_published_by_todays_catalogue(tmp_path: Path) -> None:
    storage = _catalogue(tmp_path)
    publish(storage.releases, storage.blobs, V1 / "release", Envelope.load(ROSTER), now=THEN)
    hospitals = storage.releases.find("r1").summary["hospitals"]
    assert [hospital["verdict"] for hospital in hospitals] == ["PASS", "PASS"]


def _catalogue(folder: Path) -> Storage:
    settings = CatalogueSettings(
        database=folder / "catalogue.db", roster=lambda: Envelope.load(ROSTER), clock=lambda: THEN
    )
    return open_storage(settings)


@pytest.mark.parametrize(("name", "known"), [("index", 4), ("catalogue", NEWEST)])
def test_a_database_of_a_newer_version_is_refused_in_one_line(tmp_path: Path, name: str, known: int) -> None:
    home = old_node(tmp_path)
    shutil.copy(V1 / "catalogue.db", tmp_path / "catalogue.db")
    path = tmp_path / "node" / "vault" / "index.db" if name == "index" else tmp_path / "catalogue.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {known + 1}")
    with pytest.raises(NewerVersionError, match=f"newer version of SonoShare: version {known + 1}, known here {known}"):
        Vault(home) if name == "index" else Database(path)


def _version(path: Path) -> Any:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("PRAGMA user_version").fetchone()[0]


def test_a_ledger_of_both_versions_verifies() -> None:
    """Entries with milliseconds and without salt, then entries that say the day and are salted, in one chain."""
    run = sonoshare("verify", V2 / "ledger-north.json", "--roster", ROSTER, "--json")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    export = LedgerExport.from_bytes((V2 / "ledger-north.json").read_bytes())
    assert (said["entries"], said["head"]) == (11, export.head)
    assert [len(signed.charge.time) for signed in export.charges()] == [29] * 7 + [10] * 4


def test_a_verdict_that_names_its_adapter_verifies(roster: Roster) -> None:
    data = (V2 / "attestation-north.dsse.json").read_bytes()
    manifest = ReleaseManifest.from_bytes((V1 / "release" / layout.MANIFEST).read_bytes())
    statement = statement_of(layout.attestation_path("north"), data, manifest, roster)
    assert statement.predicate.adapter_digest == manifest.model_digest
    assert statement.predicate.time == datetime(2026, 11, 28, tzinfo=UTC)


def test_a_ledger_that_changed_its_key_verifies_with_the_roster_of_after() -> None:
    run = sonoshare("verify", V4 / "ledger-north.json", "--roster", V4 / "roster.dsse.json", "--json")
    assert run.returncode == 0, run.stderr
    export = LedgerExport.from_bytes((V4 / "ledger-north.json").read_bytes())
    assert json.loads(run.stdout.splitlines()[-1])["head"] == export.head
    assert [signed.charge.kind for signed in export.charges()][-3:] == ["succession", "reserved", "committed"]
    before = sonoshare("verify", V4 / "ledger-north.json", "--roster", ROSTER, "--json")
    assert json.loads(before.stdout.splitlines()[-1])["cause"] == "ledger"


def test_a_log_with_a_change_of_keys_says_whose_ledger_it_is(roster: Roster) -> None:
    entries = LogView.from_bytes((V4 / "log.json").read_bytes()).entries
    index = LogIndex()
    assert [index.add(entry.encode()) for entry in entries] == [None, None, None]
    north, after = roster.hospital("north"), open_roster(Envelope.load(V4 / "roster.dsse.json"))
    assert north is not None
    succession, head = opened_succession(Envelope.load(V4 / "succession.dsse.json"))
    (named,) = after.successions or ()
    assert (named.old, named.new, named.succession) == (north.identity_key, succession.document.new, succession.digest)
    assert index.present_key(north.key) == succession.document.new_key == after.hospitals[0].key
    assert [logged.head.entries for logged in index.heads(north.key)] == [head.entries, head.entries, head.entries + 3]
    for trusted in (roster, after):
        assert verify_evidence((V4 / "forked.json").read_bytes(), trusted)[0] == "north"
