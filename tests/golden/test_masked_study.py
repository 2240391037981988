"""What the first masked study with pooled noise left behind is read by today's code, and for ever (``v3``)."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from sonoshare_shared.protocol.bundle import asks_for, read_bundle
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.protocol.closed_rounds import closed_rounds, took_part
from sonoshare_shared.protocol.documents import LogHead, StudyPlan
from sonoshare_shared.protocol.documents.base import Document
from sonoshare_shared.protocol.documents.exchange import decode_frame
from sonoshare_shared.protocol.documents.masking import (
    MASKED_PAYLOAD_TYPE,
    READY_PAYLOAD_TYPE,
    MaskedReply,
    MaskReady,
    RevealRequest,
)
from sonoshare_shared.protocol.documents.node_key_change import NODE_KEY_CHANGE_PAYLOAD_TYPE, NodeKeyChange
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.proposal import ANSWER_PAYLOAD_TYPE, PlanAnswer, ProposeRequest
from sonoshare_shared.protocol.documents.roster import Roster
from sonoshare_shared.protocol.documents.view import (
    LEDGER_HEAD_PAYLOAD_TYPE,
    VIEW_PAYLOAD_TYPE,
    HospitalView,
    LedgerHead,
)
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import LogIndex, masked_set_entry
from sonoshare_shared.protocol.masked_set import masked_set
from sonoshare_shared.protocol.release.evidence import LogView
from sonoshare_shared.protocol.release.verify import open_roster
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.protocol.translog import verified_head

V3 = Path(__file__).parent / "v3"
MEMBERS = ("east", "north", "south", "west")
STUDY = "pooled-study"


def envelope(name: str) -> Envelope:
    return Envelope.load(V3 / f"{name}.dsse.json")


def opened(kind: type[Any], name: str, payload_type: str, hospital: str = "north") -> Any:
    return Signed.opened(kind, envelope(name), roster().hospital(hospital).key, payload_type).document


def roster() -> Any:
    return open_roster(envelope("roster"))


def coordinator() -> PublicKey:
    return PublicKey.from_hex(roster().coordinator_key)


def plan() -> StudyPlan:
    return Signed.opened(StudyPlan, envelope("plan"), coordinator(), PLAN_PAYLOAD_TYPE).document


def index() -> LogIndex:
    found = LogIndex()
    log = LogView.from_bytes((V3 / "log.json").read_bytes())
    assert verified_head(log.head, coordinator()).size == len(log.entries)
    for entry in log.entries:
        assert found.add(entry.encode()) is None
    return found


def reveal() -> RevealRequest:
    return RevealRequest.from_bytes((V3 / "reveal-request.json").read_bytes())


def test_the_plan_says_masked_and_pooled() -> None:
    assert (plan().masked, plan().noise, plan().honest) == (True, "pooled", 3)


def test_a_proposal_on_a_stick_and_the_answers_to_it() -> None:
    header, frame = read_bundle((V3 / "propose.bundle").read_bytes(), "propose.bundle")
    assert (header.hospital, header.what, asks_for(frame)) == ("north", "propose", "propose")
    request = ProposeRequest.from_bytes(decode_frame(frame)[0])
    assert Signed.opened(StudyPlan, request.plan, coordinator(), PLAN_PAYLOAD_TYPE).digest == plan().digest()
    accepted, refused = (opened(PlanAnswer, f"plan-answer-{h}", ANSWER_PAYLOAD_TYPE, h) for h in ("north", "west"))
    assert [said.plan_digest for said in (accepted, refused)] == [plan().digest()] * 2
    assert (accepted.answer, accepted.reason, refused.answer) == ("accepted", "", "refused")
    assert "noise" in refused.reason


def test_a_masked_round_from_ready_to_its_masked_numbers() -> None:
    ready = opened(MaskReady, "mask-ready", READY_PAYLOAD_TYPE)
    assert (ready.hospital, ready.round, ready.plan) == ("north", 1, plan().digest())
    request = reveal()
    members = masked_set(request.ready, roster(), plan(), 1, LogIndex())
    assert (tuple(members.ready), members.ready["north"].document) == (MEMBERS, ready)
    reply = opened(MaskedReply, "masked-reply", MASKED_PAYLOAD_TYPE)
    assert (reply.study, reply.round, reply.members) == (STUDY, 1, members.digest)
    assert index().find(masked_set_entry(STUDY, 1, members.digest)) is not None


def test_the_log_says_how_the_round_was_closed_and_by_which_sum() -> None:
    (closed,) = closed_rounds(index(), STUDY).values()
    assert (closed.round, closed.hospitals) == (1, MEMBERS)
    assert closed.sum is not None
    assert took_part(index(), STUDY, 1) == MEMBERS
    assert index().newest_head(roster().hospital("west").key).head.entries == 3


def test_what_a_hospital_has_seen_and_a_change_of_its_node_key() -> None:
    view = opened(HospitalView, "view-north", VIEW_PAYLOAD_TYPE)
    head = Signed.opened(LedgerHead, view.ledger, roster().hospital("north").key, LEDGER_HEAD_PAYLOAD_TYPE).document
    assert (view.hospital, head.hospital, head.entries) == ("north", "north", 3)
    change = opened(NodeKeyChange, "node-key-change", NODE_KEY_CHANGE_PAYLOAD_TYPE)
    change.require_possession()
    assert change.hospital == "north"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (StudyPlan, "plan"),
        (Roster, "roster"),
        (PlanAnswer, "plan-answer-north"),
        (PlanAnswer, "plan-answer-west"),
        (MaskReady, "mask-ready"),
        (MaskedReply, "masked-reply"),
        (HospitalView, "view-north"),
        (NodeKeyChange, "node-key-change"),
    ],
)
def test_what_was_signed_has_the_form_that_todays_code_writes(kind: type[Document], name: str) -> None:
    """A field that shows itself without being set would give a new document other bytes than an old reader knows."""
    data = base64.b64decode(envelope(name).payload)
    document = kind.from_bytes(data)
    assert document.digest() == sha256_hex(data)
    assert canonical_bytes(document.model_dump(mode="json", by_alias=True)) == data


def test_entries_and_requests_have_the_form_that_todays_code_writes() -> None:
    data = (V3 / "reveal-request.json").read_bytes()
    assert canonical_bytes(reveal().model_dump(mode="json", by_alias=True)) == data
    lines = LogView.from_bytes((V3 / "log.json").read_bytes()).entries
    (line,) = (line for line in lines if json.loads(line)["kind"] == "closed-round")
    assert canonical_bytes(closed_rounds(index(), STUDY)[1].entry) == line.encode()
    head = base64.b64decode(LogView.from_bytes((V3 / "log.json").read_bytes()).head.payload)
    assert LogHead.from_bytes(head).canonical() == head
