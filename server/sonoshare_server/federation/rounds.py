"""Training rounds: name the model in the log, ask the hospitals, check, average, checkpoint.

A round closes with a quorum; a hospital that is late, lost, or sends something that cannot be used is left out and
its charge stands. Whatever is asked twice is answered with the same bytes, so a restart repeats nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sonoshare_privacy.schedule import round_optimiser
from sonoshare_server.federation.aggregate import Tensors, aggregate, check_update, read_tensors
from sonoshare_server.federation.fleet import Fleet
from sonoshare_server.federation.home import CoordinatorHome, Study, Witness
from sonoshare_shared.errors import FederationError, IntegrityError, SonoShareError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.documents.exchange import (
    KEYS_REPLY_PAYLOAD_TYPE,
    TRAIN_REPLY_PAYLOAD_TYPE,
    KeysReply,
    KeysRequest,
    LogEvidence,
    TrainReply,
    TrainRequest,
    accepted,
    encode_frame,
    model_entry,
    plan_entry,
)
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.translog import TransparencyLog

KEYS_DEADLINE_SECONDS = 60.0


@dataclass(frozen=True)
class Coordinator:
    """What every action needs: the coordinator's folder, one study, the hospitals and the open log."""

    home: CoordinatorHome
    study: Study
    fleet: Fleet
    log: TransparencyLog

    @property
    def hospitals(self) -> tuple[str, ...]:
        """Hospitals of the plan, in a fixed order."""
        return tuple(sorted(self.study.plan.cohorts))

    def logged(self, entry: dict[str, object]) -> int:
        """Index of an entry in the log; it is appended if it is not there yet."""
        index = self.log.index_of(entry)
        return self.log.append(entry) if index is None else index

    def evidence(self, hospital: str, index: int) -> LogEvidence:
        """Evidence of entry ``index`` for a hospital, from what it has witnessed."""
        seen = self.study.witnesses.get(hospital, Witness()).log_size
        return LogEvidence(
            head=self.log.head(),
            index=index,
            inclusion=tuple(self.log.inclusion_proof(index)),
            witnessed_size=seen,
            consistency=tuple(self.log.consistency_proof(seen)) if seen else (),
        )

    def witness_of(self, hospital: str) -> str | None:
        """Newest ledger head seen of a hospital."""
        return self.study.witnesses.get(hospital, Witness()).ledger_head


def introduce(coordinator: Coordinator) -> None:
    """Ask every hospital who it is and what it has witnessed; hospitals that do not answer are left out."""
    roster = coordinator.home.roster
    frame = encode_frame(KeysRequest())
    replies = coordinator.fleet.ask(dict.fromkeys(coordinator.hospitals, frame), KEYS_DEADLINE_SECONDS)
    for hospital, answer in replies.items():
        try:
            reply = _verified_keys(answer, hospital, roster)
        except SonoShareError as error:
            coordinator.study.event("refused", hospital=hospital, reason=str(error))
            continue
        before = coordinator.study.witnesses.get(hospital, Witness())
        # The ledger head is only ever taken from a signed reply to work that was charged, or first seen here.
        head = before.ledger_head or reply.ledger_head
        coordinator.study.witness(hospital, Witness(log_size=reply.log_size, ledger_head=head))


def train(coordinator: Coordinator) -> None:
    """Run the remaining rounds of the study.

    Raises:
        FederationError: a round did not reach its quorum; the study can be resumed.
    """
    plan = coordinator.study.plan
    coordinator.logged(plan_entry(plan.study, plan.digest()))
    introduce(coordinator)
    while (number := coordinator.study.state.rounds_done + 1) <= plan.rounds:
        run_round(coordinator, number)
    state = coordinator.study.state
    coordinator.logged(model_entry(plan.study, plan.rounds + 1, state.adapter_digest))
    coordinator.study.event("trained", rounds=plan.rounds, adapter=state.adapter_digest)


def run_round(coordinator: Coordinator, number: int) -> None:
    """Run one round and checkpoint its adapter.

    Raises:
        FederationError: fewer usable updates than the quorum.
    """
    study, plan = coordinator.study, coordinator.study.plan
    adapter, digest = study.adapter(), study.state.adapter_digest
    index = coordinator.logged(model_entry(plan.study, number, digest))
    study.event("round", round=number, rounds=plan.rounds)
    requests = {
        hospital: encode_frame(
            TrainRequest(
                plan=study.plan_envelope,
                round=number,
                adapter_digest=digest,
                evidence=coordinator.evidence(hospital, index),
                ledger_witness=coordinator.witness_of(hospital),
            ),
            adapter,
        )
        for hospital in coordinator.hospitals
    }
    replies = coordinator.fleet.ask(requests, plan.round_deadline_seconds)
    updates = _usable_updates(coordinator, number, read_tensors(adapter), replies)
    if len(updates) < plan.quorum:
        raise FederationError(
            f"round {number} has {len(updates)} of {plan.quorum} updates it needs",
            remedy="see the study's events, then resume the study",
        )
    result = aggregate(read_tensors(adapter), updates, {hospital: plan.weight(hospital) for hospital in updates})
    study.commit_round(number, result.adapter, sha256_hex(result.adapter))
    study.event("aggregated", round=number, hospitals=sorted(updates), scales=result.scales)


def _usable_updates(
    coordinator: Coordinator, number: int, adapter: Tensors, replies: dict[str, bytes]
) -> dict[str, Tensors]:
    roster, plan = coordinator.home.roster, coordinator.study.plan
    optimiser = round_optimiser(plan.learning_rate, plan.rounds, number)
    updates: dict[str, Tensors] = {}
    for hospital in _missing(coordinator.hospitals, replies):
        coordinator.study.event("missing", hospital=hospital, round=number)
    for hospital, answer in replies.items():
        try:
            reply, payload = _verified_update(coordinator, number, hospital, answer, roster)
            updates[hospital] = check_update(payload, adapter, optimiser, plan.local_steps)
        except SonoShareError as error:
            coordinator.study.event("refused", hospital=hospital, round=number, reason=str(error))
            continue
        coordinator.study.witness(hospital, Witness(log_size=reply.log_size, ledger_head=reply.ledger_head))
        coordinator.study.event("update", hospital=hospital, round=number, losses=list(reply.losses))
    return updates


def _missing(hospitals: Iterable[str], replies: dict[str, bytes]) -> list[str]:
    return [hospital for hospital in hospitals if hospital not in replies]


def _verified_update(
    coordinator: Coordinator, number: int, hospital: str, answer: bytes, roster: Roster
) -> tuple[TrainReply, bytes]:
    envelope, payload = accepted(answer, hospital)
    reply = TrainReply.from_bytes(envelope.verify(identity_key(roster, hospital), TRAIN_REPLY_PAYLOAD_TYPE))
    study = coordinator.study
    expected = (hospital, study.plan.study, number, study.state.adapter_digest, sha256_hex(payload))
    if (reply.hospital, reply.study, reply.round, reply.adapter_digest, reply.update_digest) != expected:
        raise IntegrityError(f"{hospital} answered for another round or study", remedy="a replayed update is refused")
    return reply, payload


def _verified_keys(answer: bytes, hospital: str, roster: Roster) -> KeysReply:
    envelope, _ = accepted(answer, hospital)
    key = identity_key(roster, hospital)
    reply = KeysReply.from_bytes(envelope.verify(key, KEYS_REPLY_PAYLOAD_TYPE))
    if reply.hospital != hospital or reply.identity_key != key.hex:
        raise IntegrityError(f"{hospital} answered under another name")
    return reply


def identity_key(roster: Roster, hospital: str) -> PublicKey:
    """Identity key of a hospital of the roster."""
    entry = roster.hospital(hospital)
    if entry is None:
        raise IntegrityError(f"{hospital} is not in the roster")
    return entry.key
