"""What goes ahead of an audit: the candidate itself, in batches that the hospital keeps on its disk until then.

    coordinator                                hospital
    HoldRequest(candidate, offset, batch)  ->  checks the batch against the candidate's digest, and keeps it
                                           <-  Held, signed: how many bytes it holds, and whether that is all
    AuditRequest(candidate)                ->  audits what it holds

A candidate is a stream of bytes (``sonoshare_shared.protocol.release.transfer``) with one address: its digest, which
stands in the log. A batch says at which byte of the stream it begins. What is held already is passed over, and nothing
is kept that begins behind it: so a batch that was lost is sent again, and after a restart of anybody both go on from
what the hospital says that it holds.

Nothing is charged and no patient is read: an answer tells what is held of a candidate that the log shows.

Not promised: that what is held is held for ever. Another candidate takes its place, and an audit whose candidate is not
held is refused (``NotHeldError``) before anything is charged.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier
from sonoshare_shared.protocol.documents.view import LogPart
from sonoshare_shared.protocol.envelope import Envelope

HELD_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.held+json"
MOST_BATCH_BYTES: Final = 16 << 20
"""Most bytes of one batch: what a hospital takes into memory at a time."""

StreamBytes = Annotated[int, Field(ge=0, lt=1 << 53)]


class HoldRequest(Document):
    """Hold this batch of a candidate's stream; without one: how much of it do you hold?

    Attributes:
        plan: signed study plan.
        release: identifier the candidate would have.
        candidate_digest: address of the candidate, as the log shows it.
        offset: byte of the stream at which the batch in the payload begins.
        log: entries that the hospital may not hold yet; they show the plan and the candidate.
    """

    kind: Literal["hold"] = "hold"
    plan: Envelope
    release: Identifier
    candidate_digest: HexDigest
    offset: StreamBytes
    log: LogPart


class Held(Document):
    """What a hospital holds of a candidate; signed.

    Attributes:
        hospital: who.
        candidate: address of the candidate.
        held: bytes of its stream from the beginning, each file among them with the digest that is listed for it; the
            end of the batch that is answered, where nothing more is needed.
        whole: nothing more is needed: it is held to its end, or it was audited here before.
    """

    schema_: Literal["sonoshare/held/v1"] = Field(default="sonoshare/held/v1", alias="schema")
    hospital: Identifier
    candidate: HexDigest
    held: StreamBytes
    whole: bool
