"""Rounds with real agents, called directly: charged once, logged, and gone on with after whatever happens."""

from functools import partialmethod
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load
from tests.deploy.exchanges import again, events, payload_of, result_of
from tests.deploy.in_process import HOSPITALS, NOMINAL, World, kind_of, pipeline

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.training import train_round
from sonoshare_privacy.accounting import PureDP
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_server.federation import introduction, rounds
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.introduction import introduce
from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import (
    TrainReply,
    TrainRequest,
    answer_in,
)
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.translog import TransparencyLog
from sonoshare_shared.protocol.views import verified_view


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
    first = result_of(world.fleet.agents[hospital].answer(again(world, hospital, frame)))
    spent = len(world.nodes[hospital].ledger.entries())
    restarted = world.reopen(hospital)
    second = result_of(world.fleet.agents[hospital].answer(again(world, hospital, frame)))
    assert first == second
    assert len(restarted.ledger.entries()) == spent


def test_a_result_is_stored_once_and_what_was_seen_is_signed_anew_each_time(world: World) -> None:
    rounds.train(world.coordinator())
    hospital, frame = next((h, f) for h, f in world.fleet.asked if b'"train"' in f)
    roster, size = world.home.roster, len(world.home.log())
    answer = answer_in(world.fleet.agents[hospital].answer(again(world, hospital, frame)), hospital)
    seen = verified_view(answer.view, hospital, roster)
    # Round 1's result, with the log and the ledger of after round 2.
    assert TrainReply.from_bytes(payload_of(answer.envelope)).round == 1
    assert seen.log_size == size
    assert seen.ledger.head == world.nodes[hospital].ledger.head()
    assert seen.view.result == sha256_hex(payload_of(answer.envelope))


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
