"""What the agent answers, and in which order it does things: verify, record, act.

For every request: the frame is parsed; the plan's signature, the hospital's own policy, the person who may have to
approve (``node.approvals``), the ledger, the log and the other hospitals' views are checked; a result that was given
before is given again; whatever else can be refused by public things is (the adapter, the ballot, the candidate, the
number of audits); the ledger is charged, durably; only then is the vault opened.

- A refusal *before* the charge names the error and its remedy: plan, policy, log, ledger and budget are public. It
  and an answer that was given before leave at once.
- A refusal *after* the charge is one constant frame, whatever went wrong, and so is the answer to any error that is
  not one of ours. What went wrong is said in the agent's log and events, at the hospital.
- Everything after a charge leaves at a public time: a slot, or it doubled (slots.py).

Whether a request was charged is read off the ledger itself, so that no path of the code can forget it. A result that
was given before is given again byte by byte; its signature is of the identity key that the hospital has now.

Not promised: that a *whole* vault that does not open (its key is gone, its index is damaged) goes unnoticed: the
constant refusal says that something failed. One patient's data cannot cause it: they leave that patient out.
"""

import base64
import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from pydantic import TypeAdapter, ValidationError

from sonoshare_client.agent.auditing import audit_candidate
from sonoshare_client.agent.calibrating import vote
from sonoshare_client.agent.holding import hold
from sonoshare_client.agent.masking import reveal, train_masked
from sonoshare_client.agent.node import Node
from sonoshare_client.agent.part_taken import require_part, require_rounds
from sonoshare_client.agent.permission import answer_to_proposal, permitted
from sonoshare_client.agent.pooling import adapter_and_sum, train_pooled
from sonoshare_client.agent.replies import Result, resigned, reveal_slot, train_slot, vote_slot
from sonoshare_client.agent.signing import sign_manifest
from sonoshare_client.agent.slots import SystemTiming, Timing, require_time_to_answer, wait_for_slot
from sonoshare_client.agent.training import train_round
from sonoshare_client.agent.witnessing import introduced, require_shown, signed_view
from sonoshare_client.node.approvals import require_not_refused
from sonoshare_client.node.policy import FederationRules
from sonoshare_client.node.pooled_policy import require_honest_sum
from sonoshare_client.node.spent import spent_at_a_glance
from sonoshare_client.node.witness import require_current
from sonoshare_shared.errors import IntegrityError, NotHeldError, PolicyError, SonoShareError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import ReleaseManifest, StudyPlan
from sonoshare_shared.protocol.documents.exchange import (
    AuditRequest,
    CalibrateRequest,
    KeysRequest,
    Refusal,
    Reply,
    Request,
    SignRequest,
    TrainRequest,
    decode_frame,
    encode_frame,
)
from sonoshare_shared.protocol.documents.holding import HoldRequest
from sonoshare_shared.protocol.documents.masking import RevealRequest
from sonoshare_shared.protocol.documents.proposal import ProposeRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import (
    Entry,
    candidate_entry,
    manifest_entry,
    masked_set_entry,
    model_entry,
    plan_entry,
)
from sonoshare_shared.protocol.masked_set import masked_set

_REQUEST: Final[TypeAdapter[Request]] = TypeAdapter(Request)
_log = logging.getLogger(__name__)


class Agent:
    """Answers frames for one hospital, one at a time: its caller holds a lock, for the time of the slot too.

    Args:
        node: the hospital's vault, policy, ledger, key and state.
        timing: the clock that slots are counted by.
    """

    def __init__(self, node: Node, timing: Timing | None = None) -> None:
        self._node = node
        self._timing: Timing = timing or SystemTiming()

    def answer(self, frame: bytes) -> bytes:
        """Answer one request frame, whatever a peer can send or a patient's data can cause.

        Raises:
            FederationError: the agent was stopped while a finished answer waited for its slot; asked again it is given.
        """
        arrived, before = self._timing.now(), self._last_charge()
        try:
            answer = self._answered(frame)
        except SonoShareError as error:
            answer = self._refused(error, charged=self._last_charge() != before)
        except Exception as error:  # noqa: BLE001 - the edge of the process: kind and text may tell of a patient
            answer = self._withheld(error)
        charged = self._last_charge() != before
        if charged:
            self._keep_spent()
            wait_for_slot(self._timing, arrived, self._slot_seconds())
        self._node.record("answered", charged=charged)
        return answer

    def _answered(self, frame: bytes) -> bytes:
        self._node.refresh()
        header, payload = decode_frame(frame)
        request = _parsed(header)
        self._node.record("request", **_about(request))
        return self._dispatch(request, payload)

    def _refused(self, error: SonoShareError, *, charged: bool) -> bytes:
        if charged:
            return self._withheld(error)
        self._node.record("refused", error=type(error).__name__, reason=error.message)
        return _refused(type(error).__name__, error.message, error.remedy)

    def _withheld(self, error: Exception) -> bytes:
        """The constant refusal; what went wrong stays here. Only our own errors promise to hold no patient data."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = error.message if isinstance(error, SonoShareError) else ""
        _log.error("request failed: %s at %s:%s %s", type(error).__name__, place.name, place.lineno, said)
        self._node.record("failed", error=type(error).__name__, reason=said)
        return WITHHELD

    def _last_charge(self) -> str | None:
        try:
            return self._node.ledger.last_charge()
        except SonoShareError:
            return None

    def _keep_spent(self) -> None:
        """For the hospital's own look at its node: the bound that the charge has just worked out."""
        with suppress(SonoShareError):
            spent_at_a_glance(self._node.home, self._node.ledger)

    def _slot_seconds(self) -> float:
        """The policy's; where that cannot be read, the cautious default."""
        try:
            return self._node.home.policy().federation.reply_slot_seconds
        except SonoShareError:
            return FederationRules().reply_slot_seconds

    def _dispatch(self, request: Request, payload: bytes) -> bytes:
        match request:
            case KeysRequest() | ProposeRequest() | HoldRequest():
                return self._uncharged(request, payload)
            case TrainRequest():
                return self._train(request, payload)
            case CalibrateRequest():
                return self._calibrate(request, payload)
            case AuditRequest():
                return self._audit(request, payload)
            case SignRequest():
                return self._sign(request, payload)
            case RevealRequest():
                return self._reveal(request)

    def _uncharged(self, request: KeysRequest | ProposeRequest | HoldRequest, payload: bytes) -> bytes:
        if isinstance(request, HoldRequest):
            return self._reply(Result(hold(self._node, request, payload)))
        if isinstance(request, ProposeRequest):
            return self._reply(Result(answer_to_proposal(self._node, request.plan)))
        return self._keys(request)

    def _keys(self, request: KeysRequest) -> bytes:
        return encode_frame(Reply(view=introduced(self._node, request)))

    def _train(self, request: TrainRequest, payload: bytes) -> bytes:
        plan = permitted(self._node, request.plan)
        adapter, added_up = adapter_and_sum(request, payload)
        if sha256_hex(adapter) != request.adapter_digest:
            raise IntegrityError("the adapter is not the one that was announced", remedy="send it again")
        require_time_to_answer(plan.round_deadline_seconds, self._slot_seconds())
        if request.round > plan.rounds:
            raise PolicyError(f"the plan has {plan.rounds} rounds", remedy="ask for a new study")
        entry = model_entry(plan.study, request.round, request.adapter_digest)
        # The model before this one is as much as the others can have seen without another exchange in every round.
        before = model_entry(plan.study, max(1, request.round - 1), request.adapter_digest)
        require_shown(self._node, request.shown, [_plan_entry(plan), entry], after=before)
        require_rounds(self._node, plan, request.round, request.adapter_digest)
        slot, identity = train_slot(plan.study, request.round), f"{plan.digest()}/{request.adapter_digest}"
        if plan.pools:
            return self._once(slot, identity, lambda: train_pooled(self._node, plan, request, adapter, added_up))
        work = train_masked if plan.masked else train_round
        return self._once(slot, identity, lambda: work(self._node, plan, request, adapter))

    def _reveal(self, request: RevealRequest) -> bytes:
        plan = permitted(self._node, request.plan)
        if not plan.masked:
            raise PolicyError("the plan's updates are not masked", remedy="ask for a study with --masked")
        members = masked_set(request.ready, self._node.roster(), plan, request.round, self._node.log.index)
        require_honest_sum(plan, len(members.ready), self._node.home.policy().training.maximum_colluding)
        model = model_entry(plan.study, request.round, members.adapter_digest)
        # Nothing was charged since the others said that they were ready: they have seen the model of this round.
        entries = [_plan_entry(plan), model, masked_set_entry(plan.study, request.round, members.digest)]
        require_shown(self._node, request.shown, entries, after=model)
        slot = reveal_slot(plan.study, request.round)
        answer = self._once(slot, members.digest, lambda: reveal(self._node, plan, request.round, members))
        self._node.masks.forget(plan.study, request.round)
        return answer

    def _calibrate(self, request: CalibrateRequest, ballot: bytes) -> bytes:
        plan = permitted(self._node, request.plan)
        require_shown(self._node, request.shown, [_plan_entry(plan)], after=_plan_entry(plan))
        require_part(self._node, plan)
        return self._once(vote_slot(plan.study), plan.digest(), lambda: vote(self._node, plan, ballot))

    def _audit(self, request: AuditRequest, payload: bytes) -> bytes:
        if payload:
            raise NotHeldError(
                "a candidate is sent in batches, before its audit is asked for", remedy="update SonoShare"
            )
        plan = permitted(self._node, request.plan)
        entry = candidate_entry(plan.study, request.release, request.candidate_digest)
        require_shown(self._node, request.shown, [_plan_entry(plan), entry], after=entry)
        require_part(self._node, plan)
        slot, identity = f"audit/{plan.study}/{request.release}", request.candidate_digest
        now = datetime.now(UTC)
        answer = self._once(slot, identity, lambda: audit_candidate(self._node, plan, request, now))
        self._node.inbox.drop(identity)
        return answer

    def _sign(self, request: SignRequest, manifest: bytes) -> bytes:
        require_current(self._node.roster())
        if sha256_hex(manifest) != request.manifest_digest:
            raise IntegrityError("the manifest is not the one that was announced", remedy="send it again")
        said = ReleaseManifest.from_bytes(manifest)
        require_not_refused(self._node.home, said.study)
        entry = manifest_entry(said.study, said.release, request.manifest_digest)
        require_shown(self._node, request.shown, [entry], after=entry)
        return self._reply(Result(sign_manifest(self._node, manifest, request.statements)))

    def _once(self, slot: str, identity: str, work: Callable[[], tuple[Envelope, bytes]]) -> bytes:
        stored = self._node.replies.find(slot, identity)
        if stored is not None:
            self._node.record("repeated", slot=slot)
            return self._reply(stored)
        result = Result(*work())
        self._node.replies.store(slot, identity, result)
        return self._reply(result)

    def _reply(self, result: Result) -> bytes:
        """A reply: what was released, and what this hospital has seen by now."""
        envelope = resigned(result.envelope, self._node.key)
        view = signed_view(self._node, envelope)
        return encode_frame(Reply(envelope=envelope, view=view), result.payload)


def _about(request: Request) -> dict[str, object]:
    """What a request says of itself, for the hospital's own log; nothing of it is believed."""
    named = {name: getattr(request, name, None) for name in ("round", "release")}
    about = {"request": request.kind, **{name: value for name, value in named.items() if value is not None}}
    if (plan := getattr(request, "plan", None)) is not None:
        with suppress(SonoShareError, ValueError):
            about["study"] = StudyPlan.from_bytes(base64.b64decode(plan.payload)).study
    return about


def _parsed(header: bytes) -> Request:
    try:
        return _REQUEST.validate_json(header)
    except ValidationError as error:
        raise IntegrityError("not a request that this agent knows", remedy="check the peer's version") from error


def _plan_entry(plan: StudyPlan) -> Entry:
    return plan_entry(plan.study, plan.digest())


def _refused(error: str, message: str, remedy: str) -> bytes:
    return encode_frame(Reply(refusal=Refusal(error=error, message=message, remedy=remedy)))


WITHHELD: Final = _refused("RefusedError", "this hospital did not answer", "ask the hospital; its agent's log says why")
"""The one refusal after a charge, and for every error that is not one of ours."""
