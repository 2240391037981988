"""One round of private fine-tuning at this hospital: an adapter in, a private update and a charge out.

What leaves is the difference between the adapter before and after, and the noisy losses; both are functions of the
noised sums that the ledger was charged for (``sonoshare_privacy.PatientDP``), of the received adapter and of public
constants of the plan. The learning rate falls linearly over the study's rounds by the plan alone, so a round
needs no memory of the one before but the canaries' secret. What the canaries saw is kept here, and never sent.

On several devices the agent is the first of several processes: it alone charges, opens the vault, draws the noise and
signs (rank_processes.py).
"""

from dataclasses import dataclass

import torch

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.private_training import private_training
from sonoshare_client.agent.rank_channel import EXCHANGE_SECONDS, Job
from sonoshare_client.agent.rank_processes import rank_processes
from sonoshare_client.vault.cohort import Cohort
from sonoshare_privacy.budget import Reservation
from sonoshare_privacy.canaries import Canaries
from sonoshare_shared.errors import LedgerError, PolicyError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import TRAIN_REPLY_PAYLOAD_TYPE, TrainReply, TrainRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.science.model.adapter import adapter_bytes, adapter_state
from sonoshare_shared.science.model.base import IMPORTED
from sonoshare_shared.science.model.tensors import State


@dataclass(frozen=True)
class Trained:
    """A round of training, done.

    Attributes:
        before: the trained parameters as they were, float32 on the CPU, by name.
        update: how far each moved.
        losses: noisy mean losses of the steps.
    """

    before: State
    update: State
    losses: tuple[float, ...]


def train_round(node: Node, plan: StudyPlan, request: TrainRequest, adapter: bytes) -> tuple[Envelope, bytes]:
    """Train one round, for a reply that holds the update.

    Args:
        node: the hospital.
        plan: checked plan.
        request: checked request.
        adapter: the global adapter.

    Returns:
        The signed reply and the update (safetensors of differences, float32).

    Raises:
        SonoShareError, Exception: as `trained`.
    """
    done = trained(node, plan, request, adapter)
    update = adapter_bytes(done.update)
    reply = TrainReply(
        hospital=node.hospital,
        study=plan.study,
        round=request.round,
        adapter_digest=request.adapter_digest,
        update_digest=sha256_hex(update),
        ledger_head=node.ledger.head(),
        log_size=node.log.size,
        losses=done.losses,
    )
    return Envelope.sign(TRAIN_REPLY_PAYLOAD_TYPE, reply.canonical(), node.key), update


def trained(node: Node, plan: StudyPlan, request: TrainRequest, adapter: bytes) -> Trained:
    """Train one round.

    Args:
        node: the hospital.
        plan: checked plan.
        request: checked request.
        adapter: the global adapter.

    Raises:
        BudgetError: the hospital's budget does not allow the round; nothing was read.
        PolicyError: the plan's canaries have no room.
        ModelError: the adapter does not fit, or the engine's self-check on made-up draws failed.
        FederationError: the processes of the further devices do not start, or do not compute the same.
        Exception: whatever goes wrong after the charge; see ``sonoshare_client.agent.service``.
    """
    model = node.model(plan, adapter)
    before = adapter_state(model, plan.trained)
    canaries = canaries_of(node, plan, sum(value.numel() for value in before.values()))
    job = _job(node, request)
    with rank_processes(node.device, node.further_devices, job, plan.canonical(), adapter) as ranks:

        def open_cohort(paid: Reservation | None) -> Cohort:
            if paid is None:
                raise LedgerError("patients are trained on under a charge only", remedy="reserve first")
            cohort = node.patients(plan, model.profile.size, paid).trained
            ranks.hand_over(cohort)
            return cohort

        outcome = private_training(
            model,
            plan,
            hospital=node.hospital,
            number=request.round,
            open_cohort=open_cohort,
            ledger=node.ledger,
            canaries=canaries,
            group=ranks.group,
        )
    if outcome.canaries is not None:
        node.canaries(plan).keep(request.round, outcome.canaries)
    after = adapter_state(model, plan.trained)
    node.record("trained", study=plan.study, round=request.round, rounds=plan.rounds)
    return Trained(before, {name: after[name] - before[name] for name in before}, outcome.losses)


def canaries_of(node: Node, plan: StudyPlan, dimension: int) -> Canaries | None:
    """The plan's canaries, the same in every round; refused before any charge where they have no room."""
    if plan.canaries == 0:
        return None
    if dimension < 2 * plan.canaries:
        raise PolicyError(
            f"{plan.canaries} canaries have no room in {dimension} trained numbers", remedy="ask for a plan with fewer"
        )
    return Canaries(count=plan.canaries, secret=node.canaries(plan).secret())


def _job(node: Node, request: TrainRequest) -> Job:
    """What the processes beside the agent must know."""
    return Job(
        hospital=node.hospital,
        round=request.round,
        threads=torch.get_num_threads(),
        seconds=EXCHANGE_SECONDS,
        imported=str(node.home.path / IMPORTED),
    )
