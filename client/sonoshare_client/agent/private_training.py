"""The private training of one round, the same in the agent and in each process that trains beside it."""

from collections.abc import Callable

from torch import distributed

from sonoshare_client.agent.draws import PatientDraws, loss_of, probe
from sonoshare_client.vault.cohort import Cohort
from sonoshare_privacy.budget import Reservation
from sonoshare_privacy.canaries import Canaries
from sonoshare_privacy.ledger import Ledger
from sonoshare_privacy.patient_dp import Outcome, PatientDP
from sonoshare_privacy.schedule import round_optimiser
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.science.model.adapter import trained_parameters
from sonoshare_shared.science.model.network import ConditionedUNet


def private_training(
    model: ConditionedUNet,
    plan: StudyPlan,
    *,
    hospital: str,
    number: int,
    open_cohort: Callable[[Reservation | None], Cohort],
    ledger: Ledger | None = None,
    canaries: Canaries | None = None,
    group: distributed.ProcessGroup | None = None,
) -> Outcome:
    """Train one round; the model's trained parameters are changed in place.

    Args:
        model: the base with the global adapter, on its device.
        plan: the study.
        hospital: whose divisor is taken.
        number: of the round.
        open_cohort: called once the charge is durable, with the charge in the first process and None in the others;
            gives the trained patients, the same in all.
        ledger: of the hospital; None in the others.
        canaries: of the hospital; None in the others.
        group: the processes that train together.

    Raises:
        BudgetError, PolicyError, LedgerError, ModelError, FederationError: see `PatientDP.train`.
    """
    device = next(model.parameters()).device
    dp = PatientDP(
        model=model,
        parameters=trained_parameters(model, plan.trained),
        mechanism=plan.mechanism,
        divisor=plan.divisor(hospital),
        ledger=ledger,
        study=plan.study,
        optimiser=round_optimiser(plan.learning_rate, plan.rounds, number),
        probe=probe(model, plan.mechanism.draws, plan.last_time),
        precision=plan.computes_in,
        group=group,
    )
    drawing = PatientDraws((), plan.mechanism.draws, device, plan.last_time)
    return dp.train(
        patients=lambda paid: drawing.hold(open_cohort(paid)),
        draw=drawing.draw,
        loss=loss_of(model),
        steps=plan.local_steps,
        purpose=f"training round {number}",
        canaries=canaries,
    )
