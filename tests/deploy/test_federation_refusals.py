"""What a hospital refuses before a charge, and what a coordinator leaves out of a round."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from tests.deploy.exchanges import again, events, first_step, train_frame
from tests.deploy.hostile import reply_of
from tests.deploy.in_process import HOSPITALS, NOMINAL, World, copied, kind_of, policy

from sonoshare_client.node.policy_file import policy_text
from sonoshare_privacy.accounting import PureDP
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_server.federation import rounds
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.introduction import settle
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import (
    TRAIN_REPLY_PAYLOAD_TYPE,
    Reply,
    TrainReply,
    answer_in,
    encode_frame,
)
from sonoshare_shared.protocol.documents.view import VIEW_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import model_entry
from sonoshare_shared.protocol.views import verified_view


@pytest.fixture
def trained(trained_world: World, tmp_path: Path) -> World:
    """As ``world``, after its last round."""
    return copied(trained_world, tmp_path / "trained")


def test_case_31_another_adapter_for_a_round_that_was_trained_is_refused(trained: World) -> None:
    hospital = HOSPITALS[0]
    spent = len(trained.nodes[hospital].ledger.entries())
    coordinator = trained.coordinator()
    adapter = trained.study.adapter()
    with pytest.raises(InputError, match="another model"):
        coordinator.logged(model_entry(trained.study.plan.study, 1, sha256_hex(adapter)))
    answer = trained.fleet.agents[hospital].answer(train_frame(coordinator, hospital, adapter, 1))
    assert reply_of(answer).refusal.error == "IntegrityError"
    assert len(trained.nodes[hospital].ledger.entries()) == spent


def test_case_35_a_model_that_the_log_does_not_show_is_refused_before_any_charge(world: World) -> None:
    coordinator = first_step(world)
    other = save({name: tensor + 1 for name, tensor in load(world.study.adapter()).items()})
    answer = world.fleet.agents["north"].answer(train_frame(coordinator, "north", other, 1))
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
    answer = trained.fleet.agents["north"].answer(train_frame(coordinator, "north", trained.study.adapter(), 2))
    assert reply_of(answer).refusal.error == "IntegrityError"
    with pytest.raises(FederationError, match="no longer has"):
        settle(coordinator, len(coordinator.log))


@pytest.mark.parametrize("kind", ["garbage", "of another round"])
def test_cases_31_and_32_an_unusable_reply_is_left_out_and_noted(world: World, kind: str) -> None:
    rounds.run_round(world.coordinator(), 1)
    first = next(frame for hospital, frame in world.fleet.asked if hospital == "south" and b'"train"' in frame)
    replayed = world.fleet.agents["south"].answer(again(world, "south", first))
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
