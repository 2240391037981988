"""A hospital that signs what it likes with its own key: it stops itself, and neither the others nor the server."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.hostile import bloated, reviewed
from tests.deploy.in_process import World, copied, kind_of
from tests.log_parts import Keys

from sonoshare_client.node.policy import FederationRules
from sonoshare_client.node.policy_file import policy_text
from sonoshare_server.federation import rounds
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.introduction import MOST_OF_A_REFUSAL
from sonoshare_server.federation.statements import verified_signature
from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.documents.exchange import (
    TRAIN_REPLY_PAYLOAD_TYPE,
    Refusal,
    Reply,
    TrainReply,
    decode_frame,
    encode_frame,
)
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.view import VIEW_PAYLOAD_TYPE, HospitalView
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey

Change = Callable[[str, Reply, SigningKey], Reply]


@pytest.fixture
def world(pristine: World, tmp_path: Path) -> World:
    """North trains with whoever is there, and a round closes with one update."""
    world = copied(pristine, tmp_path / "world")
    home = world.nodes["north"].home
    alone = home.policy().model_copy(update={"federation": FederationRules(peers=0, reply_slot_seconds=0)})
    home.policy_path.write_text(policy_text(alone))
    return world


@dataclass
class Lying:
    """A fleet in which south changes its answers before it signs them."""

    world: World
    change: Change

    def ask(self, requests: Any, deadline_seconds: Any) -> Iterator[dict[Any, Any]]:
        for answers in self.world.fleet.ask(requests, deadline_seconds):
            if "south" in answers:
                header, payload = decode_frame(answers["south"])
                key = self.world.nodes["south"].key
                said = self.change(kind_of(requests["south"]), Reply.from_bytes(header), key)
                answers["south"] = encode_frame(said, payload)
            yield answers


def bloated_view(_kind: str, reply: Reply, _key: SigningKey) -> Reply:
    return reply if reply.view is None else reply.model_copy(update={"view": bloated(reply.view)})


def bloated_part(part: str) -> Change:
    def change(_kind: str, reply: Reply, key: SigningKey) -> Reply:
        if reply.view is None:
            return reply
        held = getattr(HospitalView.from_bytes(reply.view.verify(key.public, VIEW_PAYLOAD_TYPE)), part)
        return reply if held is None else reviewed(reply, key, **{part: bloated(held)})

    return change


def losses_without_end(kind: str, reply: Reply, key: SigningKey) -> Reply:
    if kind != "train" or reply.envelope is None:
        return reply
    said = TrainReply.from_bytes(reply.envelope.verify(key.public, TRAIN_REPLY_PAYLOAD_TYPE))
    said = said.model_copy(update={"losses": said.losses * 1000})
    signed = reply.model_copy(update={"envelope": Envelope.sign(TRAIN_REPLY_PAYLOAD_TYPE, said.canonical(), key)})
    return reviewed(signed, key, result=said.digest())


def long_refusal(kind: str, reply: Reply, _key: SigningKey) -> Reply:
    refusal = Refusal(error="RefusedError", message="no " * 9999, remedy="x" * 9999)
    return Reply(refusal=refusal) if kind == "train" else reply


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (bloated_view, "more than the one signature"),
        (bloated_part("ledger"), "more than the one signature"),
        (bloated_part("log"), "more than the one signature"),
        (losses_without_end, "tells 2000 losses of 2 steps"),
        (long_refusal, "south refused: no no"),
    ],
    ids=["view", "ledger head", "log head", "losses", "refusal"],
)
def test_an_answer_of_a_length_of_its_senders_choice_is_left_out_and_the_round_goes_on(
    world: World, change: Change, reason: str
) -> None:
    plan, state = world.study.plan.model_copy(update={"study": "other", "quorum": 1}), world.study.state
    study = world.home.create_study(plan, world.study.adapter(), state.adapter_digest, None)
    coordinator = Coordinator(world.home, study, Lying(world, change), world.home.log())
    rounds.run_round(coordinator, 1)
    refused = [event for event in study.events() if event["kind"] == "refused"]
    assert {event["hospital"] for event in refused} == {"south"}
    assert any(reason in event["reason"] for event in refused)
    assert all(len(event["reason"]) < 2 * MOST_OF_A_REFUSAL + 100 for event in refused)
    assert study.state.rounds_done == 1
    assert all(len(envelope.signatures) == 1 for envelope in world.home.views().values())


def test_a_signature_that_a_release_cannot_hold_is_not_kept() -> None:
    keys = Keys()
    good = Envelope.sign(MANIFEST_PAYLOAD_TYPE, b"{}", keys.hospitals["a"])
    assert verified_signature("a", good, keys.roster, b"{}") == good
    with pytest.raises(VerificationError, match="more than the one signature"):
        verified_signature("a", bloated(good), keys.roster, b"{}")
