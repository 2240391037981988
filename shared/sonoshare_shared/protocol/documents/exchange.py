"""What the coordinator asks a hospital and what the hospital answers: a closed set of five requests.

A request or reply travels as a *frame*: one of these documents, and a payload of bytes that the document names by
its digest. Replies of hospitals are signed envelopes, checked against the identity key in the roster, so that
nothing rests on the transport. A refusal names the kind of error and its remedy, never anything of a patient.

| request | payload | reply | payload |
|---|---|---|---|
| ``KeysRequest`` | none | ``KeysReply`` | none |
| ``TrainRequest`` | adapter (safetensors) | ``TrainReply`` | update (safetensors) |
| ``CalibrateRequest`` | ballot (see ``sonoshare_shared.science.calibration.ballot``) | ``CalibrationVotes`` | none |
| ``AuditRequest`` | candidate (see ``sonoshare_shared.protocol.release.transfer``) | ``AuditStatement`` | none |
| ``SignRequest`` | manifest bytes | signature over these bytes | none |
"""

import struct
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from sonoshare_shared.errors import FederationError, IntegrityError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier
from sonoshare_shared.protocol.envelope import Envelope

KEYS_REPLY_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.keys-reply+json"
TRAIN_REPLY_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.train-reply+json"
VOTES_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.calibration-votes+json"
MAX_FRAME_BYTES: Final = 1 << 30

# Entry kinds of the transparency log that hospitals check for.
PLAN_ENTRY: Final = "plan"
MODEL_ENTRY: Final = "model"
CANDIDATE_ENTRY: Final = "candidate"


class LogEvidence(Document):
    """Proof that the log shows an entry and extends what the hospital has seen.

    Attributes:
        head: signed log head (envelope of ``LogHead``).
        index: index of the entry.
        inclusion: inclusion proof (hex).
        witnessed_size: size of the log that the hospital said it has seen.
        consistency: proof (hex) that the log of witnessed_size is a prefix of this one.
    """

    head: Envelope
    index: Annotated[int, Field(ge=0)]
    inclusion: tuple[HexDigest, ...]
    witnessed_size: Annotated[int, Field(ge=0)]
    consistency: tuple[HexDigest, ...]


class KeysRequest(Document):
    """Who are you, and what have you witnessed?"""

    kind: Literal["keys"] = "keys"


class TrainRequest(Document):
    """Train one round from this adapter.

    Attributes:
        plan: signed study plan (envelope of ``StudyPlan``).
        round: number of the round, from 1.
        adapter_digest: digest of the global adapter in the payload.
        evidence: that the log shows this adapter for this round.
        ledger_witness: newest head of the hospital's ledger that the coordinator has seen, or None.
    """

    kind: Literal["train"] = "train"
    plan: Envelope
    round: Annotated[int, Field(ge=1)]
    adapter_digest: HexDigest
    evidence: LogEvidence
    ledger_witness: HexDigest | None


class CalibrateRequest(Document):
    """Vote on this ballot.

    Attributes:
        plan: signed study plan; its calibration names the ballot in the payload.
        evidence: that the log shows the plan.
        ledger_witness: newest head of the hospital's ledger that the coordinator has seen, or None.
    """

    kind: Literal["calibrate"] = "calibrate"
    plan: Envelope
    evidence: LogEvidence
    ledger_witness: HexDigest | None


class AuditRequest(Document):
    """Audit this candidate.

    Attributes:
        plan: signed study plan.
        release: identifier the candidate would have.
        candidate_digest: digest of the candidate in the payload.
        evidence: that the log shows the candidate.
        ledger_witness: newest head of the hospital's ledger that the coordinator has seen, or None.
    """

    kind: Literal["audit"] = "audit"
    plan: Envelope
    release: Identifier
    candidate_digest: HexDigest
    evidence: LogEvidence
    ledger_witness: HexDigest | None


class SignRequest(Document):
    """Sign the final manifest in the payload, if it is the audited candidate minus vetoed images.

    Attributes:
        manifest_digest: sha256 of the manifest bytes.
        statements: signed audit statements of the plan's hospitals in the order of their ids, where the plan has a
            veto whose votes must be counted.
    """

    kind: Literal["sign"] = "sign"
    manifest_digest: HexDigest
    statements: tuple[Envelope, ...] = ()


Request = Annotated[
    KeysRequest | TrainRequest | CalibrateRequest | AuditRequest | SignRequest, Field(discriminator="kind")
]


class KeysReply(Document):
    """The hospital's identity and what it has witnessed; signed."""

    hospital: Identifier
    identity_key: HexDigest
    ledger_head: HexDigest
    log_size: Annotated[int, Field(ge=0)]


class TrainReply(Document):
    """A round is done; signed.

    Attributes:
        hospital: who.
        study: which study.
        round: which round.
        adapter_digest: the adapter it started from.
        update_digest: digest of the update in the payload.
        ledger_head: head of the ledger after the charge.
        log_size: size of the log it has now witnessed.
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
        log_size: size of the log it has now witnessed.
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
    """What comes back in a frame: a signed envelope, or a refusal."""

    envelope: Envelope | None = None
    refusal: Refusal | None = None


def encode_frame(document: Document, payload: bytes = b"") -> bytes:
    """One document and its payload as bytes: ``u32 length, canonical JSON, payload``."""
    header = canonical_bytes(document.model_dump(mode="json", by_alias=True))
    return struct.pack(">I", len(header)) + header + payload


def decode_frame(frame: bytes) -> tuple[bytes, bytes]:
    """Split a frame into the document's bytes and the payload.

    Raises:
        IntegrityError: the frame is truncated or larger than 1 GiB.
    """
    if not struct.calcsize(">I") <= len(frame) <= MAX_FRAME_BYTES:
        raise IntegrityError("frame has an impossible length", remedy="check the peer's version")
    (length,) = struct.unpack_from(">I", frame)
    if length > len(frame) - 4:
        raise IntegrityError("frame is truncated", remedy="send it again")
    return frame[4 : 4 + length], frame[4 + length :]


def model_entry(study: str, round_number: int, digest: str) -> dict[str, Any]:
    """Log entry of the global adapter that a round starts from."""
    return {"kind": MODEL_ENTRY, "study": study, "round": round_number, "digest": digest}


def plan_entry(study: str, digest: str) -> dict[str, Any]:
    """Log entry of a study plan."""
    return {"kind": PLAN_ENTRY, "study": study, "digest": digest}


def candidate_entry(study: str, release: str, digest: str) -> dict[str, Any]:
    """Log entry of a candidate release."""
    return {"kind": CANDIDATE_ENTRY, "study": study, "release": release, "digest": digest}


def accepted(frame: bytes, hospital: str) -> tuple[Envelope, bytes]:
    """Unpack a reply frame into its envelope (not yet verified) and payload.

    Raises:
        FederationError: the hospital refused, or the reply is empty.
        IntegrityError: the frame is not a reply.
    """
    header, payload = decode_frame(frame)
    reply = Reply.from_bytes(header)
    if reply.refusal is not None:
        refusal = reply.refusal
        raise FederationError(f"{hospital} refused: {refusal.message}", remedy=refusal.remedy)
    if reply.envelope is None:
        raise FederationError(f"{hospital} sent an empty reply", remedy="see the hospital's agent log")
    return reply.envelope, payload
