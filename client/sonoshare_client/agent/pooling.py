"""A round of a plan with pooled noise at this hospital: look at the last sum, then make a share and say "ready".

1. The sum of the round before, which came with the request, is held against the log, the step that the coordinator took
   is taken again, and the hospital's canaries look at the sum (``pooled_view``). All of that is before the charge.
2. The share of one step is made under its charge (``sonoshare_privacy.pooled_release``) and kept with a key made for
   the round, as in every masked round (``mask_store``); it leaves under masks for one set, once (``masking.reveal``).

**A share is not private enough to leave by itself.** Nothing that is computed from it leaves: no loss, no norm, no
verdict. What the canaries say of it stays in this hospital's events. What leaves in a statement is said of the sums.

One device computes a share; further devices of the node do not take part.
"""

from dataclasses import dataclass, replace

from sonoshare_client.agent.draws import PatientDraws, loss_of, probe
from sonoshare_client.agent.masking import waiting
from sonoshare_client.agent.node import Node
from sonoshare_client.agent.pooled_view import Tensors
from sonoshare_client.agent.training import canaries_of
from sonoshare_privacy.audits.mechanism import check_mechanism
from sonoshare_privacy.budget import Reservation
from sonoshare_privacy.canaries import Planted, joined
from sonoshare_privacy.masking.pair_masks import from_bytes
from sonoshare_privacy.patient_dp import PatientDP
from sonoshare_privacy.pooled_release import PooledLayout, PooledSum, Share
from sonoshare_shared.errors import IntegrityError, LedgerError, PolicyError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.closed_rounds import ClosedRound, closed_rounds
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.charge import PooledGaussian
from sonoshare_shared.protocol.documents.exchange import TrainRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.science.model.adapter import adapter_state, trained_parameters
from sonoshare_shared.science.model.network import ConditionedUNet


@dataclass(frozen=True)
class _Last:
    """What the round before ended with, as the log says: who took part, and the sum if it had one."""

    closed: ClosedRound | None
    added_up: PooledSum | None


def adapter_and_sum(request: TrainRequest, payload: bytes) -> tuple[bytes, bytes]:
    """The two parts of a request's payload; the second is empty where it has none."""
    size = len(payload) - (request.sum_bytes or 0)
    return payload[: max(size, 0)], payload[max(size, 0) :]


def train_pooled(
    node: Node, plan: StudyPlan, request: TrainRequest, adapter: bytes, added_up: bytes
) -> tuple[Envelope, bytes]:
    """Look at the sum of the round before, make this round's share, and say that it is ready.

    Args:
        node: the hospital.
        plan: checked plan.
        request: checked request.
        adapter: the round's model.
        added_up: the sum of the round before, as it travelled; empty for none.

    Returns:
        The signed ``MaskReady``, and no payload.

    Raises:
        IntegrityError: the sum is not the one in the log, or the model is not what the plan's step makes of it; nothing
            was charged.
        SonoShareError, Exception: as `sonoshare_client.agent.training.trained`.
    """
    if plan.honest is None:
        raise PolicyError("the plan does not pool noise", remedy="ask for a plan that does")
    model = node.model(plan, adapter)
    before = {name: tensor.numpy() for name, tensor in adapter_state(model, plan.trained).items()}
    layout = PooledLayout.of(plan.mechanism, {name: tensor.size for name, tensor in before.items()})
    _look(node, plan, request.round, before, _last(node, plan, request.round, layout, added_up))
    share, planted = _share(node, plan, request.round, model, plan.honest)
    if planted is not None:
        _look_at_share(node, plan, request.round, share, planted)
    ready = waiting(node, plan, request, layout.digest(), share.take())
    node.record("trained", round=request.round, rounds=plan.rounds)
    return ready, b""


def _look(
    node: Node,
    plan: StudyPlan,
    number: int,
    adapter: Tensors,
    last: _Last,
) -> None:
    """Hold the new model against the last sum; let the canaries see it."""
    view, one = node.sums(plan), last.added_up
    before = view.read()
    seen = view.advanced(number, adapter, one, shown=last.closed is not None)
    if before is not None and before.number == number:
        return
    if one is not None and last.closed is not None and node.hospital in last.closed.hospitals:
        dimension = one.grid.dimension - 1
        canaries = canaries_of(node, plan, dimension)
        if canaries is not None:
            looking = canaries.plant(dimension)
            looking.observe(one.tensor(), one.grid)
            node.canaries(plan).keep(number - 1, looking.record(plan.mechanism))
    view.keep(seen)
    if number > 1 and seen.state is None:
        node.record("step not checked", round=number - 1)


def _last(node: Node, plan: StudyPlan, number: int, layout: PooledLayout, added_up: bytes) -> _Last:
    closed = closed_rounds(node.log.index, plan.study).get(number - 1)
    if closed is None and number > 1:
        # Without it neither sum nor step could be held against anything, and any model would do.
        raise IntegrityError(
            f"the log does not say what round {number - 1} of {plan.study} ended with", remedy="log it, then ask again"
        )
    return _Last(closed, _sum_of(plan, closed, layout, added_up))


def _sum_of(plan: StudyPlan, closed: ClosedRound | None, layout: PooledLayout, added_up: bytes) -> PooledSum | None:
    """The sum of the round before, if it had one, as the log names it.

    Raises:
        IntegrityError: it is another, or missing.
    """
    if closed is None or closed.sum is None:
        if added_up:
            raise IntegrityError("a sum was sent that the log does not name", remedy="ask the coordinator")
        return None
    if sha256_hex(added_up) != closed.sum:
        raise IntegrityError(f"the sum of round {closed.round} is not the one in the log", remedy="send it again")
    if len(closed.hospitals) < (plan.honest or 0) or not plan.cohorts.keys() >= set(closed.hospitals):
        raise IntegrityError(f"the sum of round {closed.round} is over other hospitals than the plan allows")
    return PooledSum.of(
        from_bytes(added_up, layout.words),
        layout.grid,
        rate=plan.mechanism.rate,
        patients=sum(plan.cohorts[hospital] for hospital in closed.hospitals),
        shares=len(closed.hospitals),
        honest=plan.honest or 0,
    )


def _share(
    node: Node, plan: StudyPlan, number: int, model: ConditionedUNet, honest: int
) -> tuple[Share, Planted | None]:
    parameters = trained_parameters(model, plan.trained)
    device = next(model.parameters()).device
    dp = PatientDP(
        model=model,
        parameters=parameters,
        mechanism=plan.mechanism,
        divisor=plan.divisor(node.hospital),
        ledger=node.ledger,
        study=plan.study,
        probe=probe(model, plan.mechanism.draws, plan.last_time),
        precision=plan.computes_in,
    )
    drawing = PatientDraws((), plan.mechanism.draws, device, plan.last_time)

    def opened(paid: Reservation | None) -> int:
        if paid is None:
            raise LedgerError("patients are trained on under a charge only", remedy="reserve first")
        return drawing.hold(node.patients(plan, model.profile.size, paid).trained)

    return dp.share(
        honest=honest,
        planned=plan.rounds,
        patients=opened,
        draw=drawing.draw,
        loss=loss_of(model),
        purpose=f"training round {number}",
        canaries=canaries_of(node, plan, dp.dimension),
    )


def _look_at_share(node: Node, plan: StudyPlan, number: int, share: Share, planted: Planted) -> None:
    """What the canaries say of this hospital's own shares, for its own eyes alone."""
    alone = plan.charged(1)
    if not isinstance(alone, PooledGaussian):
        return
    mechanism = plan.mechanism.model_copy(update={"noise_multiplier": alone.alone.noise_multiplier})
    share.shown_to(planted)
    store = node.share_canaries(plan)
    store.keep(number, planted.record(mechanism))
    records = [replace(record, mechanism=mechanism) for record in store.records()]
    check = check_mechanism(joined(records), planned=plan.canaries, steps=number)
    node.record("own shares looked at", round=number, verdict=check.finding.verdict if check.finding else "none")
