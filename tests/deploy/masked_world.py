"""A consortium of four small hospitals in one process, and a study whose updates are masked."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.in_process import STUDY, DirectFleet, World, copy_folder, policy, vault_key
from tests.shared.consortium import make_plan

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.service import Agent
from sonoshare_client.intake.ingest import ingest
from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.admission import admit
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.federation import rounds
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.introduction import introduce
from sonoshare_server.federation.masked_rounds import MaskedRound
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import Reply, decode_frame, encode_frame
from sonoshare_shared.protocol.documents.masking import (
    MASKED_PAYLOAD_TYPE,
    READY_PAYLOAD_TYPE,
    MaskReady,
    RevealRequest,
)
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import masked_set_entry
from sonoshare_shared.science.model.adapter import AFFINE, adapter_bytes, adapter_digest, adapter_state
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.phantom.dicom_study import write_studies
from sonoshare_shared.state import read_state

NOMINALS = {"east": 20, "north": 30, "south": 30, "west": 45}
MEMBERS = tuple(NOMINALS)
PATIENTS = 4


def build_masked(folder: Path) -> World:
    """Four hospitals that have taken in a few patients each, and a masked study of two rounds with a quorum of 3."""
    audit = audit_policy(16.0, 0.6, 0.97, 0.001)
    home = create_coordinator(folder / "coordinator", Consortium("test-consortium", audit), ("localhost",))
    homes = {}
    for seed, hospital in enumerate(MEMBERS):
        rules = policy().model_copy(
            update={"cohort": policy().cohort.model_copy(update={"nominal": NOMINALS[hospital]})}
        )
        homes[hospital] = NodeHome.create(
            folder / hospital, hospital, policy=rules, vault_key=vault_key(folder, hospital)
        )
        archive = folder / "archives" / hospital
        ingest(
            homes[hospital], write_studies(archive, patients=PATIENTS, seed=seed, hospitals=[hospital], size=96).parent
        )
        admit(home, hospital, homes[hospital].identity().public.hex, homes[hospital].node_public_key)
    for node_home in homes.values():
        witness.enrol(node_home.state_path, home.roster_envelope, home.root)
    model, base = load_base("tiny")
    state = adapter_state(model, AFFINE)
    plan = StudyPlan.model_validate(
        {
            **make_plan().model_dump(by_alias=True),
            "study": STUDY,
            "base_digest": base,
            "audit": audit,
            "cohorts": NOMINALS,
            "local_steps": 2,
            "quorum": 3,
            "masked": True,
        }
    )
    home.create_study(plan, adapter_bytes(state), adapter_digest(state))
    return opened(folder)


def opened(folder: Path) -> World:
    """The consortium in a folder, every agent started."""
    nodes = {hospital: Node.open(NodeHome.open(folder / hospital)) for hospital in MEMBERS}
    fleet = DirectFleet({hospital: Agent(node) for hospital, node in nodes.items()})
    return World(CoordinatorHome(folder / "coordinator"), nodes, fleet)


def copy_of(world: World, folder: Path) -> World:
    """The same consortium in another folder, as after a restart of everything."""
    return opened(copy_folder(world.home.path.parent, folder))


def events(world: World, kind: str) -> list[dict[str, Any]]:
    return [event for event in world.study.events() if event["kind"] == kind]


def payload_in(envelope: Envelope) -> bytes:
    """What an envelope holds, unchecked."""
    return base64.b64decode(envelope.payload)


def reply_of(frame: bytes) -> Reply:
    return Reply.from_bytes(decode_frame(frame)[0])


def payload_of(frame: bytes) -> bytes:
    return decode_frame(frame)[1]


def signed_in(reply: Reply) -> bytes:
    return payload_in(reply.envelope)


def charges(world: World, hospital: str) -> int:
    return sum(signed.charge.kind == "reserved" for signed in world.nodes[hospital].ledger.entries())


def ready_envelopes(world: World, number: int = 1) -> list[Envelope]:
    """What the hospitals signed when they were ready, as the coordinator has stored it."""
    return read_state(world.study.masked_set_path(number), list[Envelope], remedy="")


def digest_of(envelopes: list[Envelope]) -> str:
    """Digest of a set, also of one that nobody would accept."""
    said = [payload_in(envelope) for envelope in envelopes]
    return sha256_hex(canonical_bytes([[json.loads(data)["hospital"], sha256_hex(data)] for data in said]))


def changed_ready(world: World, envelope: Envelope, signer: str | None = None, **changes: Any) -> Envelope:
    """A signed "ready" with other words, signed by its hospital or by another."""
    said = MaskReady.from_bytes(payload_in(envelope)).model_copy(update=changes)
    return Envelope.sign(READY_PAYLOAD_TYPE, said.canonical(), world.nodes[signer or said.hospital].key)


def reveal_frame(
    world: World, hospital: str, envelopes: list[Envelope], coordinator: Coordinator | None = None
) -> bytes:
    """A request for a hospital's masked numbers, with everything shown that the coordinator has."""
    coordinator = coordinator or world.coordinator()
    shown = coordinator.shown(hospital)
    return encode_frame(RevealRequest(plan=world.study.plan_envelope, round=1, ready=tuple(envelopes), shown=shown))


def ask_for_set(world: World, hospital: str, envelopes: list[Envelope]) -> bytes:
    """Log a set, introduce everybody, and ask a hospital for its numbers."""
    coordinator = world.coordinator()
    coordinator.logged(masked_set_entry(STUDY, 1, digest_of(envelopes)))
    for _ in range(2):
        introduce(coordinator, MEMBERS)
    return world.fleet.agents[hospital].answer(reveal_frame(world, hospital, envelopes, coordinator))


def interrupted(*_args: Any) -> Any:
    raise KeyboardInterrupt


def build_ready(world: World) -> World:
    """All four have trained round 1 and are ready; the set is stored, and nobody was asked for numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskedRound, "_stepped", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rounds.run_round(world.coordinator(), 1)
    return world


def revealed_by(world: World, hospital: str) -> bytes | None:
    """The masked numbers that a hospital has given."""
    results = world.nodes[hospital].replies.results()
    given = [result.payload for result in results if result.envelope.payloadType == MASKED_PAYLOAD_TYPE]
    assert len(given) <= 1
    return given[0] if given else None
