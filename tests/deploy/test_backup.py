"""Drills: a role's folder is put away while it runs, lost, and restored; an old one spends nothing twice."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.command import sonoshare
from tests.deploy.in_process import STUDY, World, policy

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.service import Agent
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.plan_check import study_events
from sonoshare_client.vault.store import Vault
from sonoshare_privacy.accounting import epsilon, merged
from sonoshare_server.federation import rounds
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.backup.archive import Member, write_archive
from sonoshare_shared.backup.folder import folder_members
from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.canonical import sha256_hex

NORTH = "north"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words"
    path.write_text("six random words on a paper\n")
    path.chmod(0o600)
    return path


def typed(*arguments: object) -> dict[str, Any]:
    run = sonoshare(*arguments, "--json")
    assert run.returncode == 0, run.stderr
    said: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return said


def put_away(role: str, home: Path, out: Path, words: Path) -> dict[str, object]:
    return typed(role, "backup", "--home", home, "--out", out, "--passphrase-file", words)


def brought_back(role: str, home: Path, archive: Path, words: Path) -> dict[str, object]:
    return typed(role, "restore", "--home", home, "--from", archive, "--passphrase-file", words)


def files(folder: Path) -> dict[str, int]:
    """Every file of a folder but what belongs to running processes, with its permissions."""
    passing = ("lock", ".lock", "-wal", "-shm", ".sock")
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mode
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(passing)
    }


def test_a_hospital_is_lost_and_goes_on_from_its_backup(world: World, tmp_path: Path, words: Path) -> None:
    home, out = world.nodes[NORTH].home.path, tmp_path / "north.sono"
    before = files(home)
    put_away("hospital", home, out, words)
    world.nodes[NORTH].ledger.close()
    shutil.rmtree(home)
    said = brought_back("hospital", home, out, words)
    assert said["ledger_entries"] == 1
    back = files(home)
    assert {name: back.get(name) for name in before} == before
    assert set(back) - set(before) <= {"state/spent.json"}
    assert home.stat().st_mode & 0o077 == 0
    restored = NodeHome.open(home)
    with Vault(restored) as vault:
        assert all(vault.load(image).pixels.size for patient in vault.patients() for image in patient.images)
    world.nodes[NORTH] = Node.open(restored)
    world.fleet.agents[NORTH] = Agent(world.nodes[NORTH])
    rounds.run_round(world.coordinator(), 1)
    assert sum(signed.charge.kind == "reserved" for signed in world.nodes[NORTH].ledger.entries()) == 1


def test_case_51_a_hospital_restored_from_an_old_backup_does_not_train(
    world: World, tmp_path: Path, words: Path
) -> None:
    home, out = world.nodes[NORTH].home.path, tmp_path / "north.sono"
    put_away("hospital", home, out, words)
    rounds.run_round(world.coordinator(), 1)
    world.nodes[NORTH].ledger.close()
    shutil.rmtree(home)
    assert "bring back its newest ledger" in str(brought_back("hospital", home, out, words)["next"])
    world.nodes[NORTH] = Node.open(NodeHome.open(home))
    world.fleet.agents[NORTH] = Agent(world.nodes[NORTH])
    adapter = world.study.adapter()
    plan = world.study.plan.model_copy(update={"study": "second"})
    study = world.home.create_study(plan, adapter, sha256_hex(adapter))
    with pytest.raises(FederationError, match="0 of 2"):
        rounds.run_round(Coordinator(world.home, study, world.fleet, world.home.log()), 1)
    assert not any(signed.charge.kind == "reserved" for signed in world.nodes[NORTH].ledger.entries())


def test_where_nobody_can_type_the_passphrase_its_file_is_asked_for(world: World, tmp_path: Path) -> None:
    run = sonoshare("hospital", "backup", "--home", world.nodes[NORTH].home.path, "--out", tmp_path / "n.sono")
    assert (run.returncode, len(run.stderr.splitlines())) == (1, 1)
    assert "--passphrase-file FILE" in run.stderr


def test_a_new_node_declares_what_a_lost_ledger_could_have_spent(world: World, tmp_path: Path, words: Path) -> None:
    """The second round's charge is in no file any more, and is counted all the same; so is a study asked for later."""
    home, out, new = world.nodes[NORTH].home.path, tmp_path / "north.sono", tmp_path / "north-2"
    rounds.run_round(world.coordinator(), 1)
    put_away("hospital", home, out, words)
    rounds.run_round(world.coordinator(), 2)
    truly = world.nodes[NORTH].ledger.spent().epsilon
    world.nodes[NORTH].ledger.close()
    shutil.rmtree(home)
    brought_back("hospital", home, out, words)
    world.reopen(NORTH)
    adapter = world.study.adapter()
    second = world.study.plan.model_copy(update={"study": "second"})
    study = world.home.create_study(second, adapter, sha256_hex(adapter))
    with pytest.raises(FederationError, match="0 of 2"):  # the restored node is shown the newest log by this
        rounds.run_round(Coordinator(world.home, study, world.fleet, world.home.log()), 1)
    world.nodes[NORTH].ledger.close()

    NodeHome.create(new, "north-2", policy=policy())
    refused = sonoshare("hospital", "declare", "--home", new, "--lost", home)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "whose plan is not here: second" in refused.stderr
    plan = tmp_path / "plan.json"
    plan.write_bytes(second.canonical())
    said = typed("hospital", "declare", "--home", new, "--lost", home, "--plan", plan)
    assert [(one["study"], one["whole_plan"]) for one in said["studies"]] == [(STUDY, True), ("second", True)]
    whole = [event for one in (world.study.plan, second) for event in study_events(one)]
    assert said["spent"]["epsilon"] == pytest.approx(epsilon(merged(whole), policy().budget.delta))
    assert said["spent"]["epsilon"] > truly
    again = sonoshare("hospital", "declare", "--home", new, "--lost", home, "--plan", plan)
    assert (again.returncode, "declared here before" in again.stderr) == (1, True)
    record = typed("hospital", "ledger", "--home", new)
    assert (record["intact"], len(record["entries"])) == (True, 3)


def test_a_coordinator_is_lost_and_goes_on_from_its_backup(world: World, tmp_path: Path, words: Path) -> None:
    rounds.run_round(world.coordinator(), 1)
    home, out, entries = world.home.path, tmp_path / "coordinator.sono", len(world.home.log())
    before = files(home)
    put_away("coordinator", home, out, words)
    shutil.rmtree(home)
    said = brought_back("coordinator", home, out, words)
    restored = CoordinatorHome(home)
    assert (said["log_entries"], len(restored.log()), restored.roster) == (entries, entries, world.home.roster)
    assert set(before) - set(files(home)) <= {"addresses.json"}
    assert {name: mode for name, mode in files(home).items() if before[name] != mode} == {}


@pytest.mark.parametrize(("role", "database"), [("hospital", "ledger.db"), ("coordinator", "catalogue.db")])
def test_an_archive_that_brings_a_journal_for_a_database_is_refused_before_that_is_opened(
    world: World, tmp_path: Path, words: Path, role: str, database: str
) -> None:
    home = world.nodes[NORTH].home.path if role == "hospital" else world.home.path
    planted = Member(f"{database}-journal", 0o600, 1, (b"j",))
    whole = Member(database, 0o600, 1, (b"d",))
    members = (one for one in folder_members(home, databases=()) if one.name not in {planted.name, whole.name})
    write_archive(tmp_path / "b.sono", [*members, whole, planted], role, words.read_text().strip(), cost=14)
    arguments = ("--from", tmp_path / "b.sono", "--passphrase-file", words)
    run = sonoshare(role, "restore", "--home", tmp_path / "new", *arguments)
    assert (run.returncode, f"beside {database}" in run.stderr) == (1, True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("role", ["hospital", "coordinator"])
def test_a_restore_that_cannot_be_is_one_line_and_leaves_nothing(
    world: World, tmp_path: Path, words: Path, role: str
) -> None:
    home = world.nodes[NORTH].home.path if role == "hospital" else world.home.path
    out, other = tmp_path / "b.sono", tmp_path / "other"
    put_away(role, home, out, words)
    other.write_text("six other words on a paper\n")
    other.chmod(0o600)
    for target, passphrase, said in ((home, words, "choose"), (tmp_path / "new", other, "another passphrase")):
        run = sonoshare(role, "restore", "--home", target, "--from", out, "--passphrase-file", passphrase)
        assert (run.returncode, len(run.stderr.splitlines())) == (1, 1)
        assert said in run.stderr
    assert not (tmp_path / "new").exists()
    inside = sonoshare(role, "backup", "--home", home, "--out", home / "b.sono", "--passphrase-file", words)
    assert (inside.returncode, "lie in the folder" in inside.stderr) == (1, True)
