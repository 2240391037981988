"""A drawing as it is given to machines that have no key of the coordinator's: signed, and nothing more than is needed.

Example: the coordinator puts job ``r1`` into a database; a rented machine, which was told the coordinator's public key,
takes it out, checks the signature over plan, adapter and votes, and draws.

What a job holds: the signed plan, the trained adapter, the ballot, and how often each kind of phantom was voted for in
all. Adapter and votes were paid for by the hospitals' ledgers; the rest is public. What it does not hold: a key, the
roster, the log, an update or a vote of one hospital, another study.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field

from sonoshare_server.release.draw import Outcome
from sonoshare_server.release.drawing import Drawing
from sonoshare_shared.errors import IntegrityError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.science.calibration.ballot import ballot_from

JOB_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.drawing-job+json"
ADAPTER: Final = "adapter"
BALLOT: Final = "ballot"
SHARES: Final = "shares"
_SHARE: Final = np.dtype("<f8")


class DrawingJob(Document):
    """What the coordinator has drawn elsewhere.

    Attributes:
        plan: signed study plan.
        release: identifier of the release.
        number: place among the candidates of the study.
        adapter_digest: the adapter's digest, as the study names it.
        parts: sha256 of each file of the job, by name.
    """

    kind: Literal["drawing-job"] = "drawing-job"
    plan: Envelope
    release: Identifier
    number: Annotated[int, Field(ge=1)]
    adapter_digest: HexDigest
    parts: dict[str, HexDigest]


@dataclass(frozen=True)
class Job:
    """A signed job and its files.

    Attributes:
        signed: envelope of a ``DrawingJob``.
        parts: its files, by name.
    """

    signed: bytes
    parts: Mapping[str, bytes]


def job_of(drawing: Drawing, plan: Envelope, key: SigningKey) -> Job:
    """A drawing as a job, signed by the coordinator.

    Args:
        drawing: what is to be drawn.
        plan: its plan, signed.
        key: the coordinator's.
    """
    parts = {ADAPTER: drawing.adapter}
    if drawing.outcome is not None:
        parts |= {BALLOT: drawing.outcome.ballot.to_bytes(), SHARES: drawing.outcome.shares.astype(_SHARE).tobytes()}
    job = DrawingJob(
        plan=plan,
        release=drawing.release,
        number=drawing.number,
        adapter_digest=drawing.adapter_digest,
        parts={name: sha256_hex(data) for name, data in parts.items()},
    )
    return Job(Envelope.sign(JOB_PAYLOAD_TYPE, job.canonical(), key).to_bytes(), parts)


def drawing_of(job: Job, coordinator: PublicKey, release: str) -> Drawing:
    """What a job asks to draw, signatures and digests checked.

    Args:
        job: as it was received.
        coordinator: whose signature it must have.
        release: that was asked for.

    Raises:
        IntegrityError: it is not signed by the coordinator, is for another release, or a file is not what was signed.
        ModelError: the ballot is none.
    """
    said = Signed.opened(DrawingJob, Envelope.from_bytes(job.signed), coordinator, JOB_PAYLOAD_TYPE).document
    if said.release != release:
        raise IntegrityError(f"the job is for release {said.release}, not {release}", remedy="ask the coordinator")
    if {name: sha256_hex(data) for name, data in job.parts.items()} != said.parts or ADAPTER not in said.parts:
        raise VerificationError("file-digest", "a file of the job is not what was signed", remedy="ask the coordinator")
    plan = Signed.opened(StudyPlan, said.plan, coordinator, PLAN_PAYLOAD_TYPE).document
    outcome = None
    if plan.calibration is not None:
        if not {BALLOT, SHARES} <= set(job.parts):
            raise IntegrityError("the job holds no votes, and its plan has some", remedy="ask the coordinator")
        ballot = ballot_from(job.parts[BALLOT])
        shares = np.frombuffer(job.parts[SHARES], _SHARE).reshape(len(plan.task.classes), -1).astype(np.float64)
        outcome = Outcome(ballot, shares, plan.calibration.sharpness)
    return Drawing(plan, job.parts[ADAPTER], said.adapter_digest, release, said.number, outcome)
