"""Rounds, audits and signatures with real agents, called directly."""

import base64
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load, save
from tests.deploy.in_process import HOSPITALS, NOMINAL, World, copied, kind_of, pipeline, policy

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.training import train_round
from sonoshare_client.audit.payment import AUDIT_PURPOSE
from sonoshare_client.node.policy_file import policy_text
from sonoshare_deploy.cli.coordinator_release import revoke as coordinator_revoke
from sonoshare_deploy.cli.hospital_look import look
from sonoshare_deploy.cli.hospital_revoke import revoke as hospital_revoke
from sonoshare_privacy.accounting import PureDP
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_server.consortium.publication import publish_release, revoke_release, unpublish_release
from sonoshare_server.federation import holding, introduction, rounds
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.introduction import introduce, settle
from sonoshare_server.release.pipeline import facts_for
from sonoshare_shared.errors import FederationError, InputError, RefusedError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import (
    TRAIN_REPLY_PAYLOAD_TYPE,
    Reply,
    TrainReply,
    TrainRequest,
    answer_in,
    decode_frame,
    encode_frame,
)
from sonoshare_shared.protocol.documents.view import VIEW_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import model_entry, plan_entry
from sonoshare_shared.protocol.release.evidence import view
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.protocol.translog import TransparencyLog
from sonoshare_shared.protocol.views import verified_view


@pytest.fixture
def world(pristine: World, tmp_path: Path) -> World:
    return copied(pristine, tmp_path / "world")


@pytest.fixture
def trained(trained_world: World, tmp_path: Path) -> World:
    """As ``world``, after its last round."""
    return copied(trained_world, tmp_path / "trained")


def events(world: World, kind: str) -> list[Any]:

    return [event for event in world.study.events() if event["kind"] == kind]


def reply_of(frame: bytes) -> Reply:
    return Reply.from_bytes(decode_frame(frame)[0])


def test_a_study_trains_charges_and_logs_every_model(world: World) -> None:
    before = load(world.study.adapter())
    rounds.train(world.coordinator())
    after = load(world.study.adapter())
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    assert world.study.state.rounds_done == 2
    plan = world.study.plan
    for number in (1, 2, 3):
        logged = [e for e in world.home.log().entries if f'"round":{number}' in e.decode() and b'"model"' in e]
        assert len(logged) == 1
    for node in world.nodes.values():
        charges = [signed.charge for signed in node.ledger.entries() if signed.charge.kind == "reserved"]
        assert [charge.purpose for charge in charges] == ["training round 1", "training round 2"]
        assert all(charge.events[0].steps == plan.local_steps for charge in charges)
        assert 0 < node.ledger.spent(study=plan.study).epsilon <= 30.0


def test_cases_31_and_40_the_same_request_gets_the_same_result_and_no_second_charge(world: World) -> None:
    rounds.train(world.coordinator())
    hospital, frame = next((h, f) for h, f in world.fleet.asked if b'"train"' in f)
    first = result_of(world.fleet.agents[hospital].answer(_again(world, hospital, frame)))
    spent = len(world.nodes[hospital].ledger.entries())
    restarted = world.reopen(hospital)
    second = result_of(world.fleet.agents[hospital].answer(_again(world, hospital, frame)))
    assert first == second
    assert len(restarted.ledger.entries()) == spent


def test_a_result_is_stored_once_and_what_was_seen_is_signed_anew_each_time(world: World) -> None:
    rounds.train(world.coordinator())
    hospital, frame = next((h, f) for h, f in world.fleet.asked if b'"train"' in f)
    roster, size = world.home.roster, len(world.home.log())
    answer = answer_in(world.fleet.agents[hospital].answer(_again(world, hospital, frame)), hospital)
    seen = verified_view(answer.view, hospital, roster)
    # Round 1's result, with the log and the ledger of after round 2.
    assert TrainReply.from_bytes(_payload(answer.envelope)).round == 1
    assert seen.log_size == size
    assert seen.ledger.head == world.nodes[hospital].ledger.head()
    assert seen.view.result == sha256_hex(_payload(answer.envelope))


def test_case_31_another_adapter_for_a_round_that_was_trained_is_refused(trained: World) -> None:
    hospital = HOSPITALS[0]
    spent = len(trained.nodes[hospital].ledger.entries())
    coordinator = trained.coordinator()
    adapter = trained.study.adapter()
    with pytest.raises(InputError, match="another model"):
        coordinator.logged(model_entry(trained.study.plan.study, 1, sha256_hex(adapter)))
    answer = trained.fleet.agents[hospital].answer(_train_frame(coordinator, hospital, adapter, 1))
    assert reply_of(answer).refusal.error == "IntegrityError"
    assert len(trained.nodes[hospital].ledger.entries()) == spent


def test_case_35_a_model_that_the_log_does_not_show_is_refused_before_any_charge(world: World) -> None:
    coordinator = first_step(world)
    other = save({name: tensor + 1 for name, tensor in load(world.study.adapter()).items()})
    answer = world.fleet.agents["north"].answer(_train_frame(coordinator, "north", other, 1))
    refusal = reply_of(answer).refusal
    assert refusal.error == "IntegrityError"
    assert "log" in refusal.message
    assert len(world.nodes["north"].ledger.entries()) == 1


def test_case_35_a_forked_log_is_refused(trained: World) -> None:
    log = trained.home.path / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    # The hospital has seen the first entries; the server now shows another history.
    log.write_bytes(b'{"digest":"x","kind":"plan","study":"forked"}\n' + b"".join(lines[1:]))
    coordinator = trained.coordinator()
    answer = trained.fleet.agents["north"].answer(_train_frame(coordinator, "north", trained.study.adapter(), 2))
    assert reply_of(answer).refusal.error == "IntegrityError"
    with pytest.raises(FederationError, match="no longer has"):
        settle(coordinator, len(coordinator.log))


def test_case_38_a_lost_hospital_leaves_the_round_open_and_the_study_resumes(world: World) -> None:
    world.fleet.lost, world.fleet.lost_at = {"south"}, "train"
    with pytest.raises(FederationError, match="1 of 2"):
        rounds.train(world.coordinator())
    charged = len(world.nodes["north"].ledger.entries())
    assert charged > 1
    world.fleet.lost = set()
    rounds.train(world.coordinator())
    assert world.study.state.rounds_done == 2
    # The first round was trained once at north: its stored result was given again.
    purposes = [s.charge.purpose for s in world.nodes["north"].ledger.entries() if s.charge.kind == "reserved"]
    assert purposes == ["training round 1", "training round 2"]


def test_introductions_are_asked_for_only_where_something_is_missing(world: World) -> None:
    rounds.train(world.coordinator())
    # Twice at the start, to learn the challenges and to have them answered; the replies of a round serve the next.
    assert world.fleet.kinds("north") == ["keys", "keys", "train", "train"]
    steps = pipeline(world)
    steps.draw(lambda done, total: None)
    steps.audit()
    assert world.fleet.kinds("north")[4:] == ["keys", "hold", "audit"]


def test_what_is_seen_adds_little_to_an_exchange(world: World) -> None:
    rounds.run_round(world.coordinator(), 1)
    views = world.home.views()
    assert set(views) == set(HOSPITALS)
    assert all(len(view.to_bytes()) < 4096 for view in views.values())
    heads = [line for line in world.home.log().entries if b'"ledger-head"' in line]
    assert len(heads) == 4  # each ledger when it was opened, and after the round
    assert all(len(line) < 1024 for line in heads)


def test_a_hospital_that_was_started_again_is_introduced_and_asked_once_more_in_the_same_round(world: World) -> None:
    coordinator = world.coordinator()
    rounds.run_round(coordinator, 1)
    world.reopen("north")
    asked = len(world.fleet.asked)
    rounds.run_round(coordinator, 2)
    assert [(h, kind_of(frame)) for h, frame in world.fleet.asked[asked:]] == [
        ("north", "train"),
        ("south", "train"),
        ("north", "keys"),
        ("south", "keys"),
        ("north", "train"),
    ]
    assert events(world, "refused") == []
    assert {event["hospital"] for event in events(world, "update") if event["round"] == 2} == set(HOSPITALS)


def test_a_hospital_that_lacks_more_of_the_log_than_one_request_holds_is_brought_up_in_several(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introduction, "MAX_PART_ENTRIES", 3)
    monkeypatch.setattr(TransparencyLog, "part", partialmethod(TransparencyLog.part, at_most=3))
    coordinator = world.coordinator()
    for number in range(10):
        coordinator.log.append({"kind": "note", "number": number})
    introduce(coordinator, HOSPITALS)
    # Both ledger heads were logged when the first of four parts had been answered.
    assert [node.log.size for node in world.nodes.values()] == [12, 12]
    assert len(coordinator.log) == 12


def test_a_line_of_the_event_log_that_was_cut_costs_itself_alone(world: World) -> None:
    study = world.study
    study.event("first")
    log = study.path / "events.jsonl"
    log.write_bytes(log.read_bytes() + b'{"time": "2026-01-')
    study.event("second")
    assert [event["kind"] for event in study.events()][-2:] == ["first", "second"]


def test_case_39_a_server_killed_between_aggregate_and_commit_completes_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sonoshare_server.home.Study.advance", killed)
        with pytest.raises(KeyboardInterrupt):
            rounds.train(world.coordinator())
    assert world.study.state.rounds_done == 0
    rounds.train(world.coordinator())
    assert world.study.state.rounds_done == 2
    for node in world.nodes.values():
        assert sum(s.charge.kind == "reserved" for s in node.ledger.entries()) == 2


@pytest.mark.parametrize("kind", ["garbage", "of another round"])
def test_cases_31_and_32_an_unusable_reply_is_left_out_and_noted(world: World, kind: str) -> None:
    rounds.run_round(world.coordinator(), 1)
    first = next(frame for hospital, frame in world.fleet.asked if hospital == "south" and b'"train"' in frame)
    replayed = world.fleet.agents["south"].answer(_again(world, "south", first))
    world.fleet.changed = {"south": b"\x00\x00\x00\x02{}" if kind == "garbage" else replayed}
    with pytest.raises(FederationError, match="1 of 2"):
        rounds.run_round(world.coordinator(), 2)
    assert events(world, "refused")[-1]["hospital"] == "south"
    assert world.study.state.rounds_done == 1


@pytest.mark.parametrize("quorum", [1, 2])
def test_case_33_an_update_scaled_up_is_refused_whole_and_the_round_goes_on_if_the_quorum_allows(
    world: World, quorum: int
) -> None:
    """One of two hospitals multiplies its update by a thousand million, and signs it."""
    plan, adapter = world.study.plan, world.study.adapter()
    plan = plan.model_copy(update={"study": f"quorum-{quorum}", "quorum": quorum})
    study = world.home.create_study(plan, adapter, world.study.state.adapter_digest, None)
    coordinator = Coordinator(world.home, study, Scaling(world, "south", 1e9), world.home.log())
    if quorum == 2:
        with pytest.raises(FederationError, match="1 of 2"):
            rounds.run_round(coordinator, 1)
    else:
        rounds.run_round(coordinator, 1)
        before, after = load(adapter), load(study.adapter())
        assert max(np.abs(after[name] - before[name]).max() for name in before) < 1.0
    (refused,) = [event for event in study.events() if event["kind"] == "refused"]
    assert refused["hospital"] == "south"
    assert "moves further than 2 steps" in refused["reason"]


def test_a_hospital_that_failed_after_its_charge_is_back_in_the_next_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others and the log do not know of the charge yet: it is introduced, and asked once more."""
    plan, adapter = world.study.plan.model_copy(update={"study": "one-of-two", "quorum": 1}), world.study.adapter()
    study = world.home.create_study(plan, adapter, world.study.state.adapter_digest, None)
    coordinator = Coordinator(world.home, study, world.fleet, world.home.log())

    def failing(node: Node, plan: StudyPlan, request: TrainRequest, adapter: bytes) -> tuple[Envelope, bytes]:
        if (node.hospital, request.round) != ("south", 1):
            return train_round(node, plan, request, adapter)
        node.ledger.reserve(ChargeRequest(plan.study, "training round 1", (PureDP(0.1),), 3e-3, NOMINAL))
        raise MemoryError

    monkeypatch.setattr("sonoshare_client.agent.service.train_round", failing)
    rounds.run_round(coordinator, 1)
    rounds.run_round(coordinator, 2)
    updates = [(event["round"], event["hospital"]) for event in study.events() if event["kind"] == "update"]
    assert updates == [(1, "north"), (2, "north"), (2, "south")]
    assert world.fleet.kinds("south") == ["keys", "keys", "train", "train", "keys", "train"]


@dataclass
class Scaling:
    """A fleet in which one hospital multiplies its update."""

    world: World
    hospital: str
    factor: float

    def ask(self, requests: Any, deadline_seconds: Any) -> Iterator[dict[Any, Any]]:
        for answers in self.world.fleet.ask(requests, deadline_seconds):
            if self.hospital in answers and kind_of(requests[self.hospital]) == "train":
                answers[self.hospital] = self._scaled(answers[self.hospital])
            yield answers

    def _scaled(self, frame: Any) -> bytes:
        """The hospital's answer with its update multiplied, all of it signed by that hospital."""
        answer, key = answer_in(frame, self.hospital), self.world.nodes[self.hospital].key
        update = save({name: np.float32(self.factor) * tensor for name, tensor in load(answer.payload).items()})
        reply = TrainReply.from_bytes(answer.envelope.verify(key.public, TRAIN_REPLY_PAYLOAD_TYPE))
        said = reply.model_copy(update={"update_digest": sha256_hex(update)})
        view = verified_view(answer.view, self.hospital, self.world.home.roster).view
        seen = view.model_copy(update={"result": said.digest()})
        signed = Reply(
            envelope=Envelope.sign(TRAIN_REPLY_PAYLOAD_TYPE, said.canonical(), key),
            view=Envelope.sign(VIEW_PAYLOAD_TYPE, seen.canonical(), key),
        )
        return encode_frame(signed, update)


def test_a_policy_that_does_not_allow_the_plan_refuses_before_any_charge(world: World) -> None:

    node = world.nodes["north"]
    node.home.policy_path.write_text(policy_text(policy(study_epsilon=5.0)))
    with pytest.raises(FederationError):
        rounds.train(world.coordinator())
    refused = events(world, "refused")[-1]
    assert refused["hospital"] == "north"
    assert "epsilon" in refused["reason"]
    assert len(node.ledger.entries()) == 1


def test_a_lowered_lifetime_budget_counts_without_a_restart(world: World) -> None:
    """The running agent of north has room for the round under the limits it was started with, and not under today's."""
    node = world.nodes["north"]
    elsewhere = ChargeRequest("elsewhere", "a release of another study", (PureDP(28.0),), 3e-3, NOMINAL)
    node.ledger.reserve(elsewhere)
    before = node.ledger.head()
    node.home.policy_path.write_text(policy_text(policy(study_epsilon=30.5, lifetime_epsilon=30.5)))
    with pytest.raises(FederationError):
        rounds.train(world.coordinator())
    refused = events(world, "refused")[-1]
    assert refused["hospital"] == "north"
    assert "the hospital's lifetime" in refused["reason"]
    assert node.ledger.head() == before


def test_a_policy_that_cannot_be_read_refuses_every_charge(world: World) -> None:
    node = world.nodes["north"]
    before = node.ledger.head()
    node.home.policy_path.write_text("[budget]\nlifetime_epsilon = twenty\n")
    with pytest.raises(InputError, match=r"policy\.toml"):
        node.ledger.reserve(ChargeRequest("elsewhere", "anything", (PureDP(0.1),), 3e-3, NOMINAL))
    assert node.ledger.head() == before


def looked_at(world: World, hospital: str, out: Path) -> Result:
    """``sonoshare hospital look --study`` on a node."""
    arguments = ["--study", "study", "--home", str(world.nodes[hospital].home.path), "--out", str(out), "--json"]
    return CliRunner().invoke(look, arguments, standalone_mode=False)


def test_a_release_is_audited_signed_sealed_and_verified(
    trained: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "BATCH_BYTES", 5000)
    steps = pipeline(trained)
    steps.draw(lambda done, total: None)
    said = steps.audit()
    assert trained.fleet.kinds("north").count("hold") > 3
    assert looked_at(trained, "north", tmp_path / "look").exception is None
    assert "Candidate" in (tmp_path / "look" / "report.html").read_text()
    assert {h: s.predicate.verdict for h, s in said.items()} == dict.fromkeys(HOSPITALS, "PASS"), [
        s.predicate.reasons for s in said.values()
    ]
    facts = facts_for(trained.home, trained.study, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    charged_since = copied(trained, tmp_path / "charged since")
    charged_since.nodes["north"].ledger.reserve(ChargeRequest("study", "another audit", (PureDP(5.0),), 3e-3, 30))
    with pytest.raises(FederationError, match="north did not sign"):
        pipeline(charged_since).finish(facts)
    bundle = steps.finish(facts)
    verified = verify_release(bundle, trained.home.roster_envelope, now=datetime.now(UTC))
    assert verified.manifest.counts == {"benign": 8, "malignant": 8}
    # Nothing public says more than the day, and the verdicts are bound to the adapter.
    moments = [verified.logged_at, verified.manifest.created, *(s.predicate.time for s in said.values())]
    assert {(m.hour, m.minute, m.second, m.microsecond) for m in moments} == {(0, 0, 0, 0)}
    assert {s.predicate.adapter_digest for s in said.values()} == {verified.manifest.model_digest}
    for hospital in HOSPITALS:
        stated = next(b for b in verified.manifest.privacy.hospitals if b.hospital == hospital)
        assert stated.epsilon >= trained.nodes[hospital].ledger.spent(stated.delta, study="study").epsilon - 1e-9
    gone = looked_at(trained, "north", tmp_path / "again").exception
    assert isinstance(gone, InputError)
    assert "keeps no candidate" in gone.message
    revoked_off_the_list(trained, bundle, tmp_path)


def revoked_off_the_list(world: World, bundle: Path, folder: Path) -> None:
    """A release that is listed no more can be revoked all the same, while others work, and a fresh log says so."""
    busy = world.coordinator()
    with busy.turn():
        publish_release(world.home, "r1")
        unpublish_release(world.home, "r1")
        revoked_by_a_hospital(world, bundle, folder)
        revoke_release(world.home, "r1", "consent withdrawn")
        held = len(busy.log)
        busy.logged(plan_entry("another", "0" * 64))  # behind two revocations that it had not seen
        assert len(busy.log) == held + 3
    with pytest.raises(VerificationError, match="was revoked by"):
        verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC), log=view(world.home.log()))
    with pytest.raises(InputError, match="never published"):
        revoke_release(world.home, "r2", "no such release")


def revoked_by_a_hospital(world: World, bundle: Path, folder: Path) -> None:
    """Its file is made beside its running agent, and entered while the coordinator is at work."""
    signed = str(folder / "revocation")
    node = ["--home", str(world.nodes["north"].home.path), "--name", "r1", "--out", signed]
    assert (
        CliRunner().invoke(hospital_revoke, [*node, "--reason", "withdrawn"], standalone_mode=False).exception is None
    )
    entered = ["--home", str(world.home.path), "--signed", signed, "--json"]
    assert '"by": "north"' in CliRunner().invoke(coordinator_revoke, entered, standalone_mode=False).stdout
    with pytest.raises(VerificationError, match="was revoked by 'north': withdrawn"):
        verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC), log=view(world.home.log()))


def audits_charged(world: World, hospital: str) -> int:
    entries = world.nodes[hospital].ledger.entries()
    return sum(s.charge.kind == "reserved" and s.charge.purpose.startswith(AUDIT_PURPOSE) for s in entries)


@pytest.mark.parametrize(
    ("failing", "charged"),
    [("sonoshare_client.agent.auditing.write_atomically", 0), ("sonoshare_client.agent.replies.write_atomically", 1)],
)
def test_a_full_disk_around_an_audit_costs_no_audit(
    trained: World, monkeypatch: pytest.MonkeyPatch, failing: str, charged: int
) -> None:
    def full(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    steps = pipeline(trained)
    steps.draw(lambda done, total: None)
    with monkeypatch.context() as patch:
        patch.setattr(failing, full)
        assert steps.audit() == {}
    assert {audits_charged(trained, hospital) for hospital in HOSPITALS} == {charged}
    said = steps.audit()
    assert {h: s.predicate.verdict for h, s in said.items()} == dict.fromkeys(HOSPITALS, "PASS")
    assert {audits_charged(trained, hospital) for hospital in HOSPITALS} == {1}


def test_cases_56_and_65_without_a_pass_nothing_is_built_and_nothing_is_signed(trained: World) -> None:
    steps = pipeline(trained)
    steps.draw(lambda done, total: None)
    trained.fleet.lost = {"south"}
    steps.audit()
    facts = facts_for(trained.home, trained.study, datetime(2026, 1, 2, tzinfo=UTC))
    with pytest.raises(RefusedError, match="south gave no verdict"):
        steps.finish(facts)
    assert not (trained.home.releases / "r1").exists()
    assert list(trained.home.releases.iterdir()) == []


def first_step(world: World) -> Coordinator:
    """A coordinator that has logged the study and introduced everybody for its first round."""
    coordinator, plan = world.coordinator(), world.study.plan
    coordinator.logged(plan_entry(plan.study, plan.digest()))
    settle(coordinator, coordinator.logged(model_entry(plan.study, 1, world.study.state.adapter_digest)))
    return coordinator


def _train_frame(coordinator: Coordinator, hospital: str, adapter: Any, number: int) -> bytes:
    request = TrainRequest(
        plan=coordinator.study.plan_envelope,
        round=number,
        adapter_digest=sha256_hex(adapter),
        shown=coordinator.shown(hospital),
    )
    return encode_frame(request, adapter)


def _again(world: World, hospital: str, frame: bytes) -> bytes:
    """The same training request with fresh log and views, as a restarted server would send it."""
    header, adapter = decode_frame(frame)
    coordinator = world.coordinator()
    introduce(coordinator, HOSPITALS)
    introduce(coordinator, HOSPITALS)
    return _train_frame(coordinator, hospital, adapter, TrainRequest.from_bytes(header).round)


def result_of(frame: bytes) -> tuple[Any, Any]:
    """What was released, without what was seen."""
    reply = answer_in(frame, "north")
    return reply.envelope, reply.payload


def _payload(envelope: Any) -> bytes:
    return base64.b64decode(envelope.payload)
