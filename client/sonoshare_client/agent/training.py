"""One round of private fine-tuning at this hospital: an adapter in, a private update and a charge out.

What leaves is the difference between the adapter before and after, and the noisy losses; both are functions of the
noised sums that the ledger was charged for (``sonoshare_privacy.PatientDP``), of the received adapter and of public
constants of the plan. The learning rate falls linearly over the study's rounds by the plan alone, so a round
needs no memory of the one before but the canaries' secret. What the canaries saw is kept here, and never sent.
"""

from sonoshare_client.agent.draws import PatientDraws, loss_of, probe
from sonoshare_client.agent.node import Node
from sonoshare_privacy.budget import Reservation
from sonoshare_privacy.canaries import Canaries
from sonoshare_privacy.patient_dp import PatientDP
from sonoshare_privacy.schedule import round_optimiser
from sonoshare_shared.errors import LedgerError, PolicyError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import TRAIN_REPLY_PAYLOAD_TYPE, TrainReply, TrainRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.science.model.adapter import adapter_bytes, adapter_state, trained_parameters


def train_round(node: Node, plan: StudyPlan, request: TrainRequest, adapter: bytes) -> tuple[Envelope, bytes]:
    """Train one round.

    Args:
        node: the hospital.
        plan: checked plan.
        request: checked request.
        adapter: the global adapter.

    Returns:
        The signed reply and the update (safetensors of differences, float32).

    Raises:
        BudgetError: the hospital's budget does not allow the round; nothing was read.
        PolicyError: the plan's canaries have no room.
        ModelError: the adapter does not fit, or the engine's self-check on made-up draws failed.
        Exception: whatever goes wrong after the charge; see ``sonoshare_client.agent.service``.
    """
    model = node.model(plan, adapter)
    before = adapter_state(model, plan.trained)
    parameters = trained_parameters(model, plan.trained)
    dp = PatientDP(
        model=model,
        parameters=parameters,
        mechanism=plan.mechanism,
        divisor=plan.divisor(node.hospital),
        ledger=node.ledger,
        study=plan.study,
        optimiser=round_optimiser(plan.learning_rate, plan.rounds, request.round),
        probe=probe(model, plan.mechanism.draws),
        precision=plan.computes_in,
    )
    canaries = _canaries(node, plan, dp.dimension)
    drawing = PatientDraws((), plan.mechanism.draws, node.device)

    def open_patients(paid: Reservation | None) -> int:
        if paid is None:
            raise LedgerError("patients are trained on under a charge only", remedy="reserve first")
        return drawing.hold(node.patients(plan, model.profile.size, paid).trained)

    outcome = dp.train(
        patients=open_patients,
        draw=drawing.draw,
        loss=loss_of(model),
        steps=plan.local_steps,
        purpose=f"training round {request.round}",
        canaries=canaries,
    )
    if outcome.canaries is not None:
        node.canaries(plan).keep(request.round, outcome.canaries)
    after = adapter_state(model, plan.trained)
    update = adapter_bytes({name: after[name] - before[name] for name in before})
    reply = TrainReply(
        hospital=node.hospital,
        study=plan.study,
        round=request.round,
        adapter_digest=request.adapter_digest,
        update_digest=sha256_hex(update),
        ledger_head=node.ledger.head(),
        log_size=node.log.size,
        losses=outcome.losses,
    )
    node.record("trained", round=request.round, rounds=plan.rounds)
    return Envelope.sign(TRAIN_REPLY_PAYLOAD_TYPE, reply.canonical(), node.key), update


def _canaries(node: Node, plan: StudyPlan, dimension: int) -> Canaries | None:
    """The plan's canaries, the same in every round; refused before any charge where they have no room."""
    if plan.canaries == 0:
        return None
    if dimension < 2 * plan.canaries:
        raise PolicyError(
            f"{plan.canaries} canaries have no room in {dimension} trained numbers", remedy="ask for a plan with fewer"
        )
    return Canaries(count=plan.canaries, secret=node.canaries(plan).secret())
