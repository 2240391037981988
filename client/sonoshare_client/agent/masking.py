"""Masked rounds at this hospital: train and say "ready", then give the masked numbers for one set, once.

- *Ready.* The update is trained under its charge as in any round, encoded, and kept here with a key made for the round
  (``mask_store``). What leaves is the signed public half of the key; nothing of the update, its norm or its losses.
- *Reveal.* The request names a set of hospitals. Before anything is masked: every member's signature is checked against
  the pinned roster (``masked_set``); the set is the one in the log; this hospital is in it with the very key that it
  signed; the plan's quorum is reached; no key is of small order. The answer is stored before it leaves and given again
  byte by byte, and key and update are removed. Another set for the same round is refused for ever, whoever asks.

Promise: of a round of a study, words that depend on the update leave once, under masks for one set.
Everything here but the words themselves is public; masking takes the same time whatever the update is.
"""

from collections.abc import Mapping

from sonoshare_client.agent.mask_store import Waiting
from sonoshare_client.agent.node import Node
from sonoshare_client.agent.training import trained
from sonoshare_privacy.masking.agreement import EphemeralKey, Sum
from sonoshare_privacy.masking.fixed_point import Words
from sonoshare_privacy.masking.layout import Layout
from sonoshare_privacy.masking.pair_masks import masked, to_bytes
from sonoshare_privacy.schedule import round_optimiser
from sonoshare_shared.errors import IntegrityError, RefusedError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import TrainRequest
from sonoshare_shared.protocol.documents.masking import (
    MASKED_PAYLOAD_TYPE,
    READY_PAYLOAD_TYPE,
    MaskedReply,
    MaskReady,
)
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.masked_set import MaskedSet


def train_masked(node: Node, plan: StudyPlan, request: TrainRequest, adapter: bytes) -> tuple[Envelope, bytes]:
    """Train one round, keep its update, and say that it is ready.

    Args:
        node: the hospital.
        plan: checked plan, ``masked``.
        request: checked request.
        adapter: the global adapter.

    Returns:
        The signed ``MaskReady``, and no payload.

    Raises:
        SonoShareError, Exception: as `sonoshare_client.agent.training.trained`.
    """
    done = trained(node, plan, request, adapter)
    optimiser = round_optimiser(plan.learning_rate, plan.rounds, request.round)
    layout = Layout.of({name: tensor.numpy() for name, tensor in done.before.items()}, optimiser, plan.local_steps)
    update = {name: tensor.numpy() for name, tensor in done.update.items()}
    words = layout.encoded(update, done.losses, plan.cohorts[node.hospital])
    return waiting(node, plan, request, layout.digest(), words), b""


def waiting(node: Node, plan: StudyPlan, request: TrainRequest, layout: str, words: Words) -> Envelope:
    """Keep what was trained under a charge, with a key made for the round, and say that it is ready.

    Args:
        node: the hospital.
        plan: checked plan, ``masked``.
        request: checked request.
        layout: digest of what stands where in the words.
        words: what will be masked; nothing of it leaves here.

    Returns:
        The signed ``MaskReady``.
    """
    key = EphemeralKey.generate()
    ready = MaskReady(
        hospital=node.hospital,
        study=plan.study,
        plan=plan.digest(),
        round=request.round,
        adapter_digest=request.adapter_digest,
        key=key.public_hex,
        layout=layout,
        ledger_head=node.ledger.head(),
        log_size=node.log.size,
    )
    node.masks.keep(plan.study, request.round, Waiting(ready.digest(), key, words))
    return Envelope.sign(READY_PAYLOAD_TYPE, ready.canonical(), node.key)


def reveal(node: Node, plan: StudyPlan, number: int, members: MaskedSet) -> tuple[Envelope, bytes]:
    """Mask the update of a round for a set.

    Args:
        node: the hospital.
        plan: checked plan.
        number: of the round.
        members: the checked set, which the log shows.

    Returns:
        The signed ``MaskedReply`` and the masked numbers.

    Raises:
        RefusedError: no update of this round waits here, or this hospital is not in the set.
        IntegrityError: the set holds another key of this hospital, or a key that is none.
    """
    waiting = node.masks.find(plan.study, number)
    if waiting is None:
        raise RefusedError(
            f"no update of round {number} waits here", remedy="it was not trained, or the round is closed: go on"
        )
    own = members.ready.get(node.hospital)
    if own is None:
        raise RefusedError(f"{node.hospital} is not in the set", remedy="leave it out, or ask for its keys first")
    if own.digest != waiting.ready:
        raise IntegrityError("the set holds another key of this hospital than the one of this round")
    words = to_bytes(masked(waiting.words, node.hospital, _secrets(node.hospital, waiting.key, plan, number, members)))
    reply = MaskedReply(
        hospital=node.hospital,
        study=plan.study,
        round=number,
        members=members.digest,
        masked_digest=sha256_hex(words),
    )
    node.record("revealed", round=number, hospitals=len(members.ready))
    return Envelope.sign(MASKED_PAYLOAD_TYPE, reply.canonical(), node.key), words


def _secrets(hospital: str, key: EphemeralKey, plan: StudyPlan, number: int, members: MaskedSet) -> Mapping[str, bytes]:
    what = Sum(study=plan.study, plan=plan.digest(), round=number, members=members.digest)
    others = {other: signed.document.key for other, signed in members.ready.items() if other != hospital}
    return {other: key.shared_with(public, hospital, other, what) for other, public in others.items()}
