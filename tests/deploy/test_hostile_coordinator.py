"""A coordinator that shows two hospitals two things, or hides what a hospital has spent: refused, and proved.

Each attack runs against real agents. What a hospital refuses is refused before any charge.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from tests.deploy.hostile_server import HostileLog, HostileServer
from tests.deploy.in_process import HOSPITALS, NOMINAL, World, copied, kind_of

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.service import Agent
from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import FederationRules
from sonoshare_client.node.policy_file import policy_text
from sonoshare_server.consortium.admission import expel
from sonoshare_server.federation import rounds
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.introduction import keep
from sonoshare_shared.errors import FederationError, LedgerError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import FileEntry, PrivacyStatement, ReleaseManifest
from sonoshare_shared.protocol.documents.exchange import Answer, Refusal
from sonoshare_shared.protocol.documents.view import LEDGER_HEAD_PAYLOAD_TYPE, VIEW_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import ledger_head_entry, manifest_entry
from sonoshare_shared.protocol.misconduct import verify_evidence
from sonoshare_shared.protocol.views import verified_view


@pytest.fixture(scope="module")
def trained(pristine: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A consortium after one round, and copies of the hospitals' folders from before it."""
    folder = tmp_path_factory.mktemp("trained") / "world"
    world = copied(pristine, folder)
    for hospital in HOSPITALS:
        shutil.copytree(folder / hospital, folder / f"{hospital}-before")
    rounds.run_round(world.coordinator(), 1)
    return world


@pytest.fixture
def after(trained: World, tmp_path: Path) -> World:
    """The consortium after one round."""
    return copied(trained, tmp_path / "after")


def moved(adapter: bytes, factor: float = 1.01) -> bytes:
    """Another adapter of the same shape."""
    return save({name: (tensor * factor).astype(np.float32) for name, tensor in load(adapter).items()})  # type: ignore[no-any-return]


def charges(world: World, hospital: str) -> int:
    return sum(signed.charge.kind == "reserved" for signed in world.nodes[hospital].ledger.entries())


def evidence_of(world: World, hospital: str) -> list[Any]:
    """Every piece of evidence at a hospital, checked offline as anybody can."""
    files = sorted((world.nodes[hospital].home.state_path / "evidence").glob("*.json"))
    return [verify_evidence(file.read_bytes(), world.home.roster) for file in files]


def restore(world: World, hospital: str, *, whole: bool) -> None:
    """Put back a hospital's ledger, or its whole folder, from before the first round; then start it again."""
    home, before = world.nodes[hospital].home.path, world.home.path.parent / f"{hospital}-before"
    world.nodes[hospital].ledger.close()
    for file in home.glob("ledger.db*"):
        file.unlink()
    for file in before.glob("ledger.db*"):
        shutil.copy(file, home)
    if whole:
        shutil.rmtree(home / "state")
        shutil.copytree(before / "state", home / "state")
    world.nodes[hospital] = Node.open(NodeHome.open(home))
    world.fleet.agents[hospital] = Agent(world.nodes[hospital])


def second_study(world: World) -> Coordinator:
    """A study that was never trained, of the same kind as the first."""
    plan = world.study.plan.model_copy(update={"study": "second"})
    adapter = world.study.adapter()
    study = world.home.create_study(plan, adapter, sha256_hex(adapter))
    return Coordinator(world.home, study, world.fleet, world.home.log())


def test_case_51_a_ledger_that_was_restored_alone_does_not_open(after: World) -> None:
    with pytest.raises(LedgerError, match="bring back the newest ledger"):
        restore(after, "north", whole=False)


def test_case_51_a_hospital_restored_between_two_studies_is_barred_by_an_honest_coordinator(after: World) -> None:
    restore(after, "north", whole=True)
    coordinator = second_study(after)
    with pytest.raises(FederationError, match="0 of 2"):
        rounds.run_round(coordinator, 1)
    reasons = [event["reason"] for event in coordinator.study.events() if event["kind"] == "refused"]
    assert reasons[0].startswith("the ledger of north has 1 entries and had 3")
    assert charges(after, "north") == 0
    # It was shown the log: a ledger that lacks what the log shows does not open any more.
    with pytest.raises(LedgerError):
        after.reopen("north")


def test_a_hospital_that_says_less_than_it_said_before_is_barred(after: World) -> None:
    restore(after, "north", whole=True)
    coordinator = second_study(after)
    node = after.nodes["north"]

    class Liar(Agent):
        """A hospital that goes on with an old ledger: it does not look at what it is shown."""

        def _keys(self, request: Any) -> bytes:
            return super()._keys(request.model_copy(update={"log": None}))

    after.fleet.agents["north"] = Liar(node)
    with pytest.raises(FederationError, match="of 2 answers"):
        rounds.run_round(coordinator, 1)
    reasons = [event["reason"] for event in coordinator.study.events() if event["kind"] == "refused"]
    assert any("the ledger of north has 1 entries and had 3" in reason for reason in reasons)
    assert not any(kind == "train" for kind in after.fleet.kinds("north"))


def test_heads_that_are_hidden_from_a_restored_hospital_are_seen_in_the_others_views(after: World) -> None:
    server = HostileServer.with_one_log(after)
    server.introduce(*HOSPITALS, *HOSPITALS)
    replayed = server.views["south"].envelope
    restore(after, "north", whole=True)
    plan = after.study.plan.model_copy(update={"study": "second"})
    # A log for north alone, in which it has spent nothing yet; south has long seen more.
    server.views.pop("north")
    server.logs["north"] = HostileLog(after)
    server.log_step(plan, after.study.adapter(), 1, "north")
    server.introduce("north")
    refusal = server.train("north", plan, after.study.adapter(), south=replayed)
    assert isinstance(refusal, Refusal)
    assert "may be older than this hospital's agent" in refusal.message
    server.introduce("south")  # it answers north's new challenge, with the log that it holds
    refusal = server.train("north", plan, after.study.adapter())
    assert refusal.error == "WitnessError"
    assert "longer log" in refusal.message
    assert charges(after, "north") == 0


def test_without_the_others_views_nothing_is_charged(world: World) -> None:
    server = HostileServer.with_one_log(world)
    plan, adapter = world.study.plan, world.study.adapter()
    server.log_step(plan, adapter)
    server.introduce("north")
    refusal = server.train("north", plan, adapter)
    assert (refusal.error, charges(world, "north")) == ("WitnessError", 0)
    assert "no view of another hospital" in refusal.message


def test_two_models_for_one_round_in_one_log_stop_both_hospitals_and_are_evidence(world: World) -> None:
    server = HostileServer.with_one_log(world)
    plan, adapter = world.study.plan, world.study.adapter()
    server.log_step(plan, adapter)
    server.introduce(*HOSPITALS, *HOSPITALS)
    assert isinstance(server.train("north", plan, adapter), Answer)
    server.log_step(plan, moved(adapter))
    for hospital, start in (("south", moved(adapter)), ("north", adapter)):
        before = charges(world, hospital)
        assert server.train(hospital, plan, start).error == "MisconductError"
        assert evidence_of(world, hospital)[0] == (
            "coordinator",
            f"signed a log with two different entries for one model (entry {len(server.logs['north']) - 1})",
        )
        # Whatever comes next is refused, after a restart too, until a person has looked.
        world.reopen(hospital)
        assert "holds evidence" in server.train(hospital, plan, adapter).message
        assert charges(world, hospital) == before
        server.introduce(hospital)
        assert server.views[hospital].view.evidence is not None


def test_two_logs_one_for_each_hospital_stop_both_and_are_evidence(world: World) -> None:
    logs = {hospital: HostileLog(world) for hospital in HOSPITALS}
    server = HostileServer(world, logs)
    plan, adapter = world.study.plan, world.study.adapter()
    starts = {"north": adapter, "south": moved(adapter)}
    for hospital, start in starts.items():
        server.log_step(plan, start, 1, hospital)
    server.introduce(*HOSPITALS, *HOSPITALS)
    for hospital, start in starts.items():
        assert server.train(hospital, plan, start).error == "MisconductError"
        assert evidence_of(world, hospital)[0][0] == "coordinator"
        assert charges(world, hospital) == 0


def test_logs_that_part_after_a_round_are_noticed_at_the_next_step_and_the_other_hospital_stops_too(
    after: World,
) -> None:
    server = HostileServer.with_one_log(after)
    plan, adapter = after.study.plan.model_copy(update={"study": "second"}), after.study.adapter()
    server.log_step(plan, adapter)
    server.introduce(*HOSPITALS, *HOSPITALS, *HOSPITALS)
    assert all(isinstance(server.train(hospital, plan, adapter), Answer) for hospital in HOSPITALS)
    # From here on two logs: another model of round 2 for south.
    server.logs["south"] = HostileLog(after, server.logs["south"].entries)
    server.log_step(plan, adapter, 2, "north")
    server.log_step(plan, moved(adapter), 2, "south")
    server.introduce(*HOSPITALS)
    assert server.train("north", plan, adapter, 2).error == "MisconductError"
    assert evidence_of(after, "north")[0][0] == "coordinator"
    server.introduce("north")
    assert server.train("south", plan, moved(adapter), 2).error in {"MisconductError", "RefusedError"}
    assert [charges(after, hospital) for hospital in HOSPITALS] == [2, 2]


def test_a_hospital_whose_head_is_not_logged_does_not_charge_again(after: World) -> None:
    server = HostileServer.with_one_log(after)
    plan, adapter = after.study.plan.model_copy(update={"study": "second"}), after.study.adapter()
    server.log_step(plan, adapter)
    server.log_head = lambda hospital: None
    server.introduce(*HOSPITALS, *HOSPITALS)
    assert isinstance(server.train("north", plan, adapter), Answer)
    refusal = server.train("north", plan.model_copy(update={"study": "third"}), adapter)
    assert "newest head of this hospital's ledger" in refusal.message
    assert charges(after, "north") == 2


def test_a_server_cannot_have_one_hospital_charge_on_and_on_while_the_other_sees_nothing(after: World) -> None:
    server = HostileServer.with_one_log(after)
    adapter = after.study.adapter()
    plans = [after.study.plan.model_copy(update={"study": f"s{number}"}) for number in range(3)]
    for plan in plans:
        server.log_step(plan, adapter)
    server.introduce(*HOSPITALS, *HOSPITALS, *HOSPITALS)
    answers = [server.train("north", plan, adapter) for plan in plans]
    assert isinstance(answers[0], Answer)
    assert answers[-1].error == "WitnessError"
    assert "must have seen" in answers[-1].message


def test_a_ledger_head_that_this_hospital_never_signed_is_evidence(world: World) -> None:
    server = HostileServer.with_one_log(world)
    server.introduce(*HOSPITALS)
    seen = server.views["north"]
    false = ledger_head_entry(seen.ledger, server.views["south"].view.ledger)
    server.logs["north"].append(false)
    server.introduce("north")
    assert evidence_of(world, "north")[0][0] == "coordinator"


def test_a_manifest_that_the_log_does_not_show_is_not_signed(after: World) -> None:
    server = HostileServer.with_one_log(after)
    server.introduce(*HOSPITALS, *HOSPITALS)
    manifest = _manifest(after)
    assert server.sign("north", manifest).error == "IntegrityError"
    server.logs["north"].append(manifest_entry("study", "r1", sha256_hex(manifest)))
    server.introduce(*HOSPITALS)
    refusal = server.sign("north", manifest)
    assert "has not audited" in refusal.message
    server.logs["north"].append(manifest_entry("study", "r1", "0" * 64))
    assert server.sign("north", manifest).error == "MisconductError"


def test_evidence_that_a_person_took_away_lets_everything_go_on_but_the_spoilt_round(world: World) -> None:
    server = HostileServer.with_one_log(world)
    plan, adapter = world.study.plan, world.study.adapter()
    server.log_step(plan, adapter)
    server.log_step(plan, moved(adapter))
    server.introduce("north")
    folder = world.nodes["north"].home.state_path / "evidence"
    folder.rename(folder.with_name("looked-at"))
    other = plan.model_copy(update={"study": "second"})
    server.log_step(other, adapter)
    rules = world.nodes["north"].home.policy()
    alone = rules.model_copy(update={"federation": FederationRules(peers=0, reply_slot_seconds=0)})
    world.nodes["north"].home.policy_path.write_text(policy_text(alone))
    server.introduce("north")
    assert "does not show" in server.train("north", plan, adapter).message
    assert isinstance(server.train("north", other, adapter), Answer)


def test_a_hospital_alone_in_its_consortium_trains_with_one_introduction(world: World) -> None:
    expel(world.home, "south")
    witness.enrol(world.nodes["north"].home.state_path, world.home.roster_envelope, world.home.root)
    changes = {"study": "alone", "cohorts": {"north": NOMINAL}, "quorum": 1}
    plan, adapter = world.study.plan.model_copy(update=changes), world.study.adapter()
    study = world.home.create_study(plan, adapter, sha256_hex(adapter))
    coordinator = Coordinator(world.home, study, world.fleet, world.home.log())
    rounds.run_round(coordinator, 1)
    assert study.state.rounds_done == 1
    assert [(hospital, kind_of(frame)) for hospital, frame in world.fleet.asked] == [
        ("north", "keys"),
        ("north", "train"),
    ]
    assert charges(world, "north") == 1


def test_a_hospital_that_forks_its_ledger_is_barred_and_the_proof_is_kept(after: World) -> None:
    coordinator, north = after.coordinator(), after.nodes["north"]
    seen = coordinator.views()["north"]
    other = seen.ledger.model_copy(update={"head": "7" * 64})
    signed = Envelope.sign(LEDGER_HEAD_PAYLOAD_TYPE, other.canonical(), north.key)
    view = seen.view.model_copy(update={"ledger": signed})
    forked = Envelope.sign(VIEW_PAYLOAD_TYPE, view.canonical(), north.key)
    assert not keep(coordinator, verified_view(forked, "north", after.home.roster))
    assert coordinator.barred == {"north"}
    (proof,) = after.home.evidence_path.glob("*.json")
    words = f"signed two different ledgers of {seen.ledger.entries} entries"
    assert verify_evidence(proof.read_bytes(), after.home.roster) == ("north", words)


def _manifest(world: World) -> bytes:
    """A manifest of a release that nobody has audited."""
    plan = world.study.plan
    manifest = ReleaseManifest(
        release="r1",
        study=plan.study,
        task=plan.task.name,
        sequence=1,
        created=datetime(2026, 1, 2, tzinfo=UTC),
        files=(FileEntry(path="images/0.png", sha256="1" * 64, size=1),),
        counts={"benign": 1},
        candidate_digest="2" * 64,
        model_digest="3" * 64,
        plan_digest=plan.digest(),
        privacy=PrivacyStatement(epsilon=1.0, delta=1e-3, hospitals=()),
        licence="CC-BY-4.0",
        duo=(),
    )
    return manifest.canonical()
