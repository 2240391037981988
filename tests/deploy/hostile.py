"""A coordinator that keeps to the protocol and asks for whatever it likes: its own plans, adapters and candidates."""

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.candidate_parts import stream_of
from tests.deploy.in_process import HOSPITALS, World

from sonoshare_client.agent.service import Agent
from sonoshare_server.federation.introduction import introduce
from sonoshare_server.release.build import Samples, build_candidate
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import (
    AuditRequest,
    CalibrateRequest,
    Reply,
    SignRequest,
    TrainRequest,
    decode_frame,
    encode_frame,
)
from sonoshare_shared.protocol.documents.holding import HoldRequest
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.view import VIEW_PAYLOAD_TYPE, HospitalView, Shown
from sonoshare_shared.protocol.envelope import Envelope, Signature
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import Entry, candidate_entry, manifest_entry, model_entry, plan_entry
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.science.phantom import simulate


def reply_of(frame: bytes) -> Reply:
    """The document of a reply frame."""
    return Reply.from_bytes(decode_frame(frame)[0])


def said(frame: bytes) -> dict[str, Any]:
    """What a signed reply says."""
    envelope = json.loads(reply_of(frame).envelope.to_bytes())
    return json.loads(base64.b64decode(envelope["payload"]))  # type: ignore[no-any-return]


@dataclass
class Hostile:
    """Makes frames for one hospital of a world, and logs what they need."""

    world: World
    hospital: str

    @property
    def agent(self) -> Agent:
        return self.world.fleet.agents[self.hospital]

    def train(self, plan: StudyPlan, adapter: bytes, number: int = 1) -> bytes:
        digest = sha256_hex(adapter)
        shown = self._shown(plan, model_entry(plan.study, number, digest))
        request = TrainRequest(plan=self._signed(plan), round=number, adapter_digest=digest, shown=shown)
        return encode_frame(request, adapter)

    def calibrate(self, plan: StudyPlan, ballot: bytes) -> bytes:
        return encode_frame(CalibrateRequest(plan=self._signed(plan), shown=self._shown(plan)), ballot)

    def hold(self, plan: StudyPlan, stream: bytes, digest: str, release: str = "r1", offset: int = 0) -> bytes:
        request = HoldRequest(
            plan=self._signed(plan),
            release=release,
            candidate_digest=digest,
            offset=offset,
            log=self._shown(plan, candidate_entry(plan.study, release, digest)).log,
        )
        return encode_frame(request, stream)

    def audit(self, plan: StudyPlan, stream: bytes, digest: str, release: str = "r1") -> bytes:
        """Have a candidate held and ask for its audit; the request to hold it, if that is refused."""
        ahead = self.hold(plan, stream, digest, release)
        return self.ask_audit(plan, digest, release) if reply_of(self.agent.answer(ahead)).envelope else ahead

    def ask_audit(self, plan: StudyPlan, digest: str, release: str = "r1") -> bytes:
        request = AuditRequest(
            plan=self._signed(plan),
            release=release,
            candidate_digest=digest,
            shown=self._shown(plan, candidate_entry(plan.study, release, digest)),
        )
        return encode_frame(request)

    def sign(self, plan: StudyPlan, manifest: bytes, release: str = "r1") -> bytes:
        digest = sha256_hex(manifest)
        shown = self._shown(plan, manifest_entry(plan.study, release, digest))
        return encode_frame(SignRequest(manifest_digest=digest, shown=shown), manifest)

    def candidate(self, plan: StudyPlan, folder: Any, adapter: bytes, images: Any = None) -> tuple[bytes, str]:
        """Stream of a candidate of a plan, and its digest; phantoms unless other images are given."""
        phantoms = simulate(16, seed=91, size=32)
        images = phantoms.images if images is None else images
        samples = Samples(
            images,
            phantoms.masks,
            np.arange(16) % 2,
            np.full(16, -1),
            phantoms.boxes,
            np.arange(16),
            np.full((16, 2), np.nan),
        )
        digest = sha256_hex(adapter)
        build_candidate(folder, [samples], release="r1", plan=plan, model_digest=digest)
        listing = (folder / "candidate.json").read_bytes()
        assert Candidate.from_bytes(listing).study == plan.study
        return stream_of(listing, adapter, lambda path: (folder / path).read_bytes()), sha256_hex(listing)

    def _signed(self, plan: StudyPlan) -> Envelope:
        return Envelope.sign(PLAN_PAYLOAD_TYPE, plan.canonical(), self.world.home.key)

    def _shown(self, plan: StudyPlan, *entries: Entry) -> Shown:
        """What the hospital must be shown: the log with these entries, and fresh views of all."""
        coordinator = self.world.coordinator()
        for entry in (plan_entry(plan.study, plan.digest()), *entries):
            coordinator.logged(entry)
        for _ in range(2):  # to learn the challenges, and to have them answered
            introduce(coordinator, HOSPITALS)
        return coordinator.shown(self.hospital)


def bloated(envelope: Envelope) -> Envelope:
    """The same document under the same signature, among hundreds that nobody made."""
    none = Signature(keyid="0" * 64, sig="A" * 88)
    return envelope.model_copy(update={"signatures": (*envelope.signatures, *[none] * 200)})


def reviewed(reply: Reply, key: SigningKey, **changes: Any) -> Reply:
    """The reply with another view, signed."""
    assert reply.view is not None
    view = HospitalView.from_bytes(reply.view.verify(key.public, VIEW_PAYLOAD_TYPE)).model_copy(update=changes)
    return reply.model_copy(update={"view": Envelope.sign(VIEW_PAYLOAD_TYPE, view.canonical(), key)})
