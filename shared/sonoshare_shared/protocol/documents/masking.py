"""What travels in a masked round besides the request to train: who is ready, the set, and the masked numbers.

| request | payload | reply | payload |
|---|---|---|---|
| ``TrainRequest`` of a plan that is ``masked`` | adapter (safetensors) | ``MaskReady`` | none |
| ``RevealRequest`` | none | ``MaskedReply`` | masked numbers (eight bytes each) |

Nothing here depends on a patient but the masked numbers, and these only through an update that was charged for.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier
from sonoshare_shared.protocol.documents.view import MAX_HOSPITALS, Shown
from sonoshare_shared.protocol.envelope import Envelope

READY_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.mask-ready+json"
MASKED_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.masked-reply+json"


class MaskReady(Document):
    """This hospital has trained the round and can mask its update; signed.

    Attributes:
        hospital: who.
        study: which study.
        plan: digest of its plan.
        round: which round.
        adapter_digest: the adapter it started from.
        key: public half (X25519) of a key that was made for this round.
        layout: digest of which numbers stand where, and in which units.
        ledger_head: head of the ledger after the charge.
        log_size: size of the log that it held when it did this.
    """

    hospital: Identifier
    study: Identifier
    plan: HexDigest
    round: Annotated[int, Field(ge=1)]
    adapter_digest: HexDigest
    key: HexDigest
    layout: HexDigest
    ledger_head: HexDigest
    log_size: Annotated[int, Field(ge=0)]


class RevealRequest(Document):
    """Send your masked numbers for exactly this set.

    Attributes:
        plan: signed study plan.
        round: number of the round.
        ready: what every hospital of the set signed (``MaskReady``), in the order of their ids.
        shown: the log, which shows the set, and the other hospitals' views.
    """

    kind: Literal["reveal"] = "reveal"
    plan: Envelope
    round: Annotated[int, Field(ge=1)]
    ready: Annotated[tuple[Envelope, ...], Field(min_length=1, max_length=MAX_HOSPITALS)]
    shown: Shown


class MaskedReply(Document):
    """The masked numbers in the payload are this hospital's, for this set and no other; signed.

    Attributes:
        hospital: who.
        study: which study.
        round: which round.
        members: digest of the set (``sonoshare_shared.protocol.masked_set``).
        masked_digest: digest of the masked numbers in the payload.
    """

    hospital: Identifier
    study: Identifier
    round: Annotated[int, Field(ge=1)]
    members: HexDigest
    masked_digest: HexDigest
