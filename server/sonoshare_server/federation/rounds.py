"""Training rounds: name the model in the log, ask the hospitals, check, average, close.

A round closes with a quorum; a hospital that is late, lost, expelled, or sends something that cannot be used is left
out and its charge stands; it is asked again in the next round. Who took part stands in the log (``closing``). Whatever
is asked twice is answered with the same bytes, so a restart repeats nothing.
"""

from dataclasses import dataclass

from sonoshare_privacy.schedule import round_optimiser
from sonoshare_server.federation.aggregate import Tensors, aggregate, check_update, read_tensors
from sonoshare_server.federation.closing import close_round, resume_closed
from sonoshare_server.federation.coordinator import Coordinator, identity_key
from sonoshare_server.federation.exchange import Question, exchange
from sonoshare_server.federation.masked_rounds import run_masked_round
from sonoshare_server.federation.starting import RoundStart
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.documents.exchange import TRAIN_REPLY_PAYLOAD_TYPE, Answer, TrainReply, TrainRequest
from sonoshare_shared.protocol.documents.view import Shown
from sonoshare_shared.protocol.log_index import model_entry, plan_entry
from sonoshare_shared.protocol.signed import Signed


@dataclass(frozen=True)
class Update:
    """What a hospital sent in a round: its signed reply, and the update that the reply names."""

    reply: TrainReply
    tensors: Tensors


def train(coordinator: Coordinator) -> None:
    """Run the remaining rounds of the study.

    Raises:
        FederationError: a round did not reach its quorum; the study can be resumed.
    """
    plan = coordinator.study.plan
    while coordinator.study.state.rounds_done < plan.rounds:
        with coordinator.turn():  # between two rounds other studies have theirs
            resume_closed(coordinator)
            if (number := coordinator.study.state.rounds_done + 1) <= plan.rounds:
                run_round(coordinator, number)
    state = coordinator.study.state
    coordinator.logged(model_entry(plan.study, plan.rounds + 1, state.adapter_digest))
    coordinator.study.event("trained", rounds=plan.rounds, adapter=state.adapter_digest)


def run_round(coordinator: Coordinator, number: int) -> None:
    """Run one round and close it.

    Raises:
        FederationError: fewer usable updates than the quorum.
    """
    study, plan = coordinator.study, coordinator.study.plan
    start = RoundStart(
        study=plan.study,
        number=number,
        adapter=study.adapter(),
        digest=study.state.adapter_digest,
        optimiser=round_optimiser(plan.learning_rate, plan.rounds, number),
        steps=plan.local_steps,
    )
    coordinator.logged(plan_entry(plan.study, plan.digest()))
    coordinator.logged(model_entry(plan.study, number, start.digest))
    study.event("round", round=number, rounds=plan.rounds)
    if plan.masked:
        run_masked_round(coordinator, start)
        return
    updates = exchange(coordinator, _question(coordinator, start))
    tensors = {hospital: update.tensors for hospital, update in updates.items()}
    weights = {hospital: plan.weight(hospital) for hospital in updates}
    result = aggregate(read_tensors(start.adapter), tensors, weights)
    close_round(coordinator, number, result.adapter, updates)
    left_out = sorted(plan.cohorts.keys() - updates.keys())
    study.event("aggregated", round=number, hospitals=sorted(updates), left_out=left_out, scales=result.scales)


def verified_update(hospital: str, answer: Answer, *, roster: Roster, start: RoundStart, adapter: Tensors) -> Update:
    """Check a hospital's answer in a round.

    Args:
        hospital: who answered.
        answer: what it answered.
        roster: the consortium.
        start: what the round started from.
        adapter: the same adapter, read.

    Raises:
        IntegrityError: it is not signed by this hospital, or answers for another round, study or adapter.
            It is refused whole too if it does not fit the adapter, or moves further than the optimiser can.
    """
    key = identity_key(roster, hospital)
    reply = Signed.opened(TrainReply, answer.signed, key, TRAIN_REPLY_PAYLOAD_TYPE).document
    expected = (hospital, start.study, start.number, start.digest, sha256_hex(answer.payload))
    if (reply.hospital, reply.study, reply.round, reply.adapter_digest, reply.update_digest) != expected:
        raise IntegrityError(f"{hospital} answered for another round or study", remedy="a replayed update is refused")
    if len(reply.losses) != start.steps:
        raise IntegrityError(f"{hospital} tells {len(reply.losses)} losses of {start.steps} steps")
    return Update(reply, check_update(answer.payload, adapter, start.optimiser, start.steps))


def _question(coordinator: Coordinator, start: RoundStart) -> Question[Update]:
    study, plan = coordinator.study, coordinator.study.plan
    adapter = read_tensors(start.adapter)

    def request(shown: Shown) -> TrainRequest:
        return TrainRequest(plan=study.plan_envelope, round=start.number, adapter_digest=start.digest, shown=shown)

    def verify(hospital: str, answer: Answer) -> Update:
        return verified_update(hospital, answer, roster=coordinator.home.roster, start=start, adapter=adapter)

    def record(hospital: str, update: Update) -> None:
        study.event("update", hospital=hospital, round=start.number, losses=list(update.reply.losses))

    return Question(
        request=request,
        payload=start.adapter,
        # The others need to have seen the model before this one: their replies to the last round show that.
        after=model_entry(plan.study, max(1, start.number - 1), start.digest),
        deadline_seconds=plan.round_deadline_seconds,
        verify=verify,
        record=record,
        about={"round": start.number},
        quorum=plan.quorum,
        name=f"round {start.number}",
    )
