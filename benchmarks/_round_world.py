"""A consortium for ``benchmarks.round``: a coordinator, hospitals, and one study whose adapter has the size asked for.

Run as ``python -m benchmarks._round_world FOLDER HOSPITAL...``: the agents of these hospitals, in one process. They are
the real agents but for the step itself: every frame, plan, view and log is checked, the ledger is charged and the reply
signed and stored; in the place of training stands an update that was made before.
"""

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from sonoshare_client.agent import service
from sonoshare_client.agent.node import Node
from sonoshare_client.agent.server import AgentServer
from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import AuditRules, BudgetRules, CohortRules, FederationRules, Policy
from sonoshare_deploy.provision import create_coordinator
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_server.consortium import terms
from sonoshare_server.consortium.admission import admit
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.consortium.studies import draft_study
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.charge import SampledGaussian
from sonoshare_shared.protocol.documents.exchange import TRAIN_REPLY_PAYLOAD_TYPE, TrainReply, TrainRequest
from sonoshare_shared.protocol.envelope import Envelope

STUDY: Final = "round"
NOMINAL: Final = 2000
EPSILON: Final = 8.0
DELTA: Final = 1e-5
TENSOR_NUMBERS: Final = 1 << 18
"""A tensor of the adapter has 1 MiB."""


def names(count: int) -> list[str]:
    """Ids of hospitals."""
    return [f"hospital-{number:02d}" for number in range(1, count + 1)]


def socket_of(folder: Path, hospital: str) -> Path:
    """Where a hospital's agent listens."""
    return folder / f"{hospital}.sock"


def make(folder: Path, hospitals: Sequence[str], payload: int, rounds: int) -> CoordinatorHome:
    """Make the consortium and its study.

    Args:
        folder: where.
        hospitals: their ids.
        payload: bytes of the adapter's numbers.
        rounds: of the study.
    """
    audit = audit_policy(EPSILON, 0.6, 0.97, 0.001)
    home = create_coordinator(folder / "coordinator", Consortium("bench", audit), ("localhost", "127.0.0.1"))
    homes = [NodeHome.create(folder / hospital, hospital, policy=_policy()) for hospital in hospitals]
    for node in homes:
        admit(home, node.hospital, node.identity().public.hex, node.node_public_key)
    for node in homes:
        witness.enrol(node.state_path, home.roster_envelope, home.root)
    asked = terms.StudyTerms(
        study=STUDY,
        task=terms.DIAGNOSIS,
        cohorts=dict.fromkeys(hospitals, NOMINAL),
        audit=audit,
        epsilon=3 * EPSILON,
        delta=DELTA,
        rounds=rounds,
        local_steps=1,
        images=16,
        profile="tiny",
    )
    adapter = _numbers(payload, scale=1.0, seed=1)
    home.create_study(draft_study(asked).plan, adapter, sha256_hex(adapter))
    return home


def _policy() -> Policy:
    return Policy(
        budget=BudgetRules(study_epsilon=100.0, lifetime_epsilon=100.0, delta=DELTA),
        cohort=CohortRules(nominal=NOMINAL, minimum_trained=5, minimum_held_out=2),
        audit=AuditRules(
            maximum_epsilon_copies=12,
            maximum_epsilon_membership=12,
            maximum_epsilon_veto=12,
            maximum_tolerated_share=0.9,
            maximum_tolerated_auc=0.99,
        ),
        federation=FederationRules(reply_slot_seconds=0),
    )


def _numbers(payload: int, scale: float, seed: int) -> bytes:
    """Safetensors of random numbers: nothing on the way can make them smaller."""
    generator, left = np.random.default_rng(seed), payload // 4
    tensors: dict[str, NDArray[np.float32]] = {}
    while left:
        count = min(left, TENSOR_NUMBERS)
        tensors[f"tensor.{len(tensors):04d}"] = scale * generator.standard_normal(count, np.float32)
        left -= count
    return bytes(save(tensors))


class RoundWithoutStep:
    """What stands in the place of training: the charge of a round, and a small update, another one each time."""

    def __init__(self) -> None:
        self._made = 0

    def __call__(self, node: Node, plan: StudyPlan, request: TrainRequest, adapter: bytes) -> tuple[Envelope, bytes]:
        self._made += 1
        reservation = node.ledger.reserve(
            ChargeRequest(
                study=plan.study,
                purpose=f"training round {request.round}",
                events=(SampledGaussian(plan.mechanism.rate, plan.mechanism.noise_multiplier, plan.local_steps),),
                delta=plan.mechanism.delta,
                nominal_cohort=plan.cohorts[node.hospital],
            )
        )
        node.ledger.commit(reservation)
        size = np.float32(1e-9 * (1 + self._made / 1000))
        update = save({name: value * size for name, value in load(adapter).items()})
        reply = TrainReply(
            hospital=node.hospital,
            study=plan.study,
            round=request.round,
            adapter_digest=request.adapter_digest,
            update_digest=sha256_hex(update),
            ledger_head=node.ledger.head(),
            log_size=node.log.size,
            losses=(1.0,) * plan.local_steps,
        )
        return Envelope.sign(TRAIN_REPLY_PAYLOAD_TYPE, reply.canonical(), node.key), update


def main() -> None:
    """Serve the agents until told to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    folder, hospitals = Path(sys.argv[1]), sys.argv[2:]
    vars(service)["train_round"] = RoundWithoutStep()
    for hospital in hospitals:
        agent = service.Agent(Node.open(NodeHome.open(folder / hospital)))
        server = AgentServer(socket_of(folder, hospital), agent)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
