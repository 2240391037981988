"""Training requests as a coordinator sends them, and what comes back, for tests that ask an agent directly."""

import base64
from typing import Any

from tests.deploy.in_process import HOSPITALS, World

from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.introduction import introduce, settle
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import TrainRequest, answer_in, decode_frame, encode_frame
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import model_entry, plan_entry


def events(world: World, kind: str) -> list[Any]:
    """Of one kind, in the study's event log."""
    return [event for event in world.study.events() if event["kind"] == kind]


def first_step(world: World) -> Coordinator:
    """A coordinator that has logged the study and introduced everybody for its first round."""
    coordinator, plan = world.coordinator(), world.study.plan
    coordinator.logged(plan_entry(plan.study, plan.digest()))
    settle(coordinator, coordinator.logged(model_entry(plan.study, 1, world.study.state.adapter_digest)))
    return coordinator


def train_frame(coordinator: Coordinator, hospital: str, adapter: Any, number: int) -> bytes:
    """A request to train in round ``number`` from an adapter, with the log and the views of now."""
    request = TrainRequest(
        plan=coordinator.study.plan_envelope,
        round=number,
        adapter_digest=sha256_hex(adapter),
        shown=coordinator.shown(hospital),
    )
    return encode_frame(request, adapter)


def again(world: World, hospital: str, frame: bytes) -> bytes:
    """The same training request with fresh log and views, as a restarted server would send it."""
    header, adapter = decode_frame(frame)
    coordinator = world.coordinator()
    introduce(coordinator, HOSPITALS)
    introduce(coordinator, HOSPITALS)
    return train_frame(coordinator, hospital, adapter, TrainRequest.from_bytes(header).round)


def result_of(frame: bytes) -> tuple[Any, Any]:
    """What was released, without what was seen."""
    reply = answer_in(frame, "north")
    return reply.envelope, reply.payload


def payload_of(envelope: Envelope) -> bytes:
    """What was signed, unchecked."""
    return base64.b64decode(envelope.payload)
