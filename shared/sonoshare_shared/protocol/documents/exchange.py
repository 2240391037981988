"""What the coordinator asks a hospital and what the hospital answers: a closed set of eight requests.

A request or reply travels as a *frame*: one of these documents, and a payload of bytes that the document names by
its digest. Replies of hospitals are signed envelopes, checked against the identity key in the roster, so that
nothing rests on the transport. A refusal names the kind of error and its remedy, never anything of a patient.

Every reply that is no refusal carries a fresh ``HospitalView`` beside what was asked for: what was released is signed
once and given again byte by byte, what the hospital has seen is signed anew (``documents.view``).

| request | payload | reply | payload |
|---|---|---|---|
| ``KeysRequest`` | none | the view alone | none |
| ``ProposeRequest`` (``documents.proposal``) | none | ``PlanAnswer`` | none |
| ``TrainRequest`` | adapter (safetensors) | ``TrainReply`` | update (safetensors) |
| ``CalibrateRequest`` | ballot (see ``sonoshare_shared.science.calibration.ballot``) | ``CalibrationVotes`` | none |
| ``HoldRequest`` (``documents.holding``) | a batch of a candidate | ``Held`` | none |
| ``AuditRequest`` | none: the candidate is held | ``AuditStatement`` | none |
| ``SignRequest`` | manifest bytes | signature over these bytes | none |

Masked rounds have an answer and a request more (``documents.masking``).
"""

import struct
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from sonoshare_shared.errors import FederationError, IntegrityError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.documents.holding import HoldRequest
from sonoshare_shared.protocol.documents.masking import RevealRequest
from sonoshare_shared.protocol.documents.proposal import ProposeRequest
from sonoshare_shared.protocol.documents.view import MAX_HOSPITALS, LogPart, Shown
from sonoshare_shared.protocol.envelope import Envelope

TRAIN_REPLY_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.train-reply+json"
VOTES_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.calibration-votes+json"
MAX_FRAME_BYTES: Final = 1 << 29
"""The largest is a step with pooled noise that trains everything of the largest profile: 12 bytes a number, 517 MB."""


class KeysRequest(Document):
    """Who are you, and what have you seen? An introduction: nothing is charged.

    Attributes:
        log: entries that the hospital does not hold yet; None asks for its view as it stands.
        challenges: challenges of the other hospitals, for it to answer, by hospital.
    """

    kind: Literal["keys"] = "keys"
    log: LogPart | None = None
    challenges: Annotated[dict[Identifier, HexDigest], Field(max_length=MAX_HOSPITALS)] = Field(default_factory=dict)


class TrainRequest(Document):
    """Train one round from this adapter.

    Attributes:
        plan: signed study plan (envelope of ``StudyPlan``).
        round: number of the round, from 1.
        adapter_digest: digest of the global adapter in the payload.
        shown: the log, which shows this adapter for this round, and the other hospitals' views.
        sum_bytes: where hospitals pool their noise, and the round before had a sum: how many bytes of it follow the
            adapter in the payload.
    """

    kind: Literal["train"] = "train"
    plan: Envelope
    round: Annotated[int, Field(ge=1)]
    adapter_digest: HexDigest
    shown: Shown
    sum_bytes: Annotated[int | None, Field(ge=1)] = added()


class CalibrateRequest(Document):
    """Vote on this ballot.

    Attributes:
        plan: signed study plan; its calibration names the ballot in the payload.
        shown: the log, which shows the plan, and the other hospitals' views.
    """

    kind: Literal["calibrate"] = "calibrate"
    plan: Envelope
    shown: Shown


class AuditRequest(Document):
    """Audit this candidate, which the hospital holds.

    Attributes:
        plan: signed study plan.
        release: identifier the candidate would have.
        candidate_digest: address of the candidate.
        shown: the log, which shows the candidate, and the other hospitals' views.
    """

    kind: Literal["audit"] = "audit"
    plan: Envelope
    release: Identifier
    candidate_digest: HexDigest
    shown: Shown


class SignRequest(Document):
    """Sign the final manifest in the payload, if it is the audited candidate minus vetoed images.

    Attributes:
        manifest_digest: sha256 of the manifest bytes.
        statements: signed audit statements of the hospitals that took part, in the order of their ids: each must say
            PASS, and votes of a veto are counted.
        shown: the log, which shows the manifest, and the other hospitals' views.
    """

    kind: Literal["sign"] = "sign"
    manifest_digest: HexDigest
    shown: Shown
    statements: tuple[Envelope, ...] = ()


Request = Annotated[
    KeysRequest
    | ProposeRequest
    | TrainRequest
    | CalibrateRequest
    | HoldRequest
    | AuditRequest
    | SignRequest
    | RevealRequest,
    Field(discriminator="kind"),
]


class TrainReply(Document):
    """A round is done; signed.

    Attributes:
        hospital: who.
        study: which study.
        round: which round.
        adapter_digest: the adapter it started from.
        update_digest: digest of the update in the payload.
        ledger_head: head of the ledger after the charge.
        log_size: size of the log that it held when it did this.
        losses: noisy mean losses of the steps; clipped and noised with the gradient, part of the same charge.
    """

    hospital: Identifier
    study: Identifier
    round: Annotated[int, Field(ge=1)]
    adapter_digest: HexDigest
    update_digest: HexDigest
    ledger_head: HexDigest
    log_size: Annotated[int, Field(ge=0)]
    losses: tuple[float, ...]


class CalibrationVotes(Document):
    """The noisy votes of a hospital's trained patients; signed, and part of a release that was drawn by them.

    Attributes:
        hospital: who.
        study: which study.
        plan_digest: the plan they were charged under.
        ballot: digest of the ballot they are about.
        votes: noisy count of every option of the ballot.
        epsilon: what was charged for all of them.
        ledger_head: head of the ledger after the charge.
        log_size: size of the log that it held when it did this.
    """

    schema_: Literal["sonoshare/calibration-votes/v1"] = Field(default="sonoshare/calibration-votes/v1", alias="schema")
    hospital: Identifier
    study: Identifier
    plan_digest: HexDigest
    ballot: HexDigest
    votes: Annotated[tuple[int, ...], Field(min_length=1)]
    epsilon: Annotated[float, Field(gt=0)]
    ledger_head: HexDigest
    log_size: Annotated[int, Field(ge=0)]


class Refusal(Document):
    """The hospital says no: the error's name, what is wrong and what to do about it."""

    error: str
    message: str
    remedy: str


class Reply(Document):
    """What comes back in a frame: what was asked for and a view, both signed; or a refusal."""

    envelope: Envelope | None = None
    view: Envelope | None = None
    refusal: Refusal | None = None


def encode_frame(document: Document, payload: bytes = b"") -> bytes:
    """One document and its payload as bytes: ``u32 length, canonical JSON, payload``."""
    header = canonical_bytes(document.model_dump(mode="json", by_alias=True))
    return struct.pack(">I", len(header)) + header + payload


def decode_frame(frame: bytes) -> tuple[bytes, bytes]:
    """Split a frame into the document's bytes and the payload.

    Raises:
        IntegrityError: the frame is truncated or larger than ``MAX_FRAME_BYTES``.
    """
    if not struct.calcsize(">I") <= len(frame) <= MAX_FRAME_BYTES:
        raise IntegrityError("frame has an impossible length", remedy="check the peer's version")
    (length,) = struct.unpack_from(">I", frame)
    if length > len(frame) - 4:
        raise IntegrityError("frame is truncated", remedy="send it again")
    return frame[4 : 4 + length], frame[4 + length :]


@dataclass(frozen=True)
class Answer:
    """What a hospital answered, nothing of it verified yet.

    Attributes:
        envelope: what it signed once and gives again; None with an introduction.
        view: what it has seen, signed for this answer.
        payload: bytes beside them.
    """

    envelope: Envelope | None
    view: Envelope
    payload: bytes

    @property
    def signed(self) -> Envelope:
        """The envelope.

        Raises:
            FederationError: there is none.
        """
        if self.envelope is None:
            raise FederationError("the answer is empty", remedy="see the hospital's agent log")
        return self.envelope


def answer_in(frame: bytes, hospital: str) -> Answer | Refusal:
    """Unpack a reply frame.

    Raises:
        FederationError: the reply is empty.
        IntegrityError: the frame is not a reply.
    """
    header, payload = decode_frame(frame)
    reply = Reply.from_bytes(header)
    if reply.refusal is not None:
        return reply.refusal
    if reply.view is None:
        raise FederationError(f"{hospital} sent an empty reply", remedy="see the hospital's agent log")
    return Answer(reply.envelope, reply.view, payload)
