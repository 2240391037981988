"""A study whose hospitals get lost at random: ten hospitals, twenty rounds, real training, real documents and logs.

    python -m benchmarks.losses [--hospitals 10] [--rounds 20] [--seed 1] [--json]

Every hospital is a whole node (vault, policy, ledger, agent) with 24 simulated patients; frames are passed from hand to
hand in one process. Before each round a hospital is, by chance, away (it gets no request: .12), loses its answer (it
trains, and nobody hears of it: .08), or is started again (.08). Two thirds of the hospitals close a round; a round that
has fewer is run again. Prints one JSON object as the last line:

- ``rounds_done``, ``closed``: rounds of the study, and entries of the log that close one; ``run_again``: attempts that
  had too few; ``hospitals_by_round``: how many updates are in each model; ``took_part``;
- ``charged_by_hospital``: rounds in the ledger; ``trained_by_hospital``: rounds that it computed an update of;
  ``under_counts``: trained and not charged (must be 0); ``unused_charges``: charged, and in no model;
- ``epsilon_planned``, ``epsilon_by_hospital``: of training alone in the plan, and spent; ``ledgers_verified``;
- ``held_out_loss``: of 64 phantoms that nobody trained on, before each tenth of the rounds and at the end.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.replies import train_slot
from sonoshare_client.agent.service import Agent
from sonoshare_client.intake.ingest import ingest
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import BudgetRules, CohortRules, FederationRules, Policy
from sonoshare_client.node.witness import enrol
from sonoshare_deploy.provision import create_coordinator
from sonoshare_privacy.accounting import SampledGaussian, epsilon
from sonoshare_server.consortium.admission import admit
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.consortium.studies import draft_study
from sonoshare_server.consortium.terms import DIAGNOSIS, StudyTerms
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.rounds import train
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.closed_rounds import closed_rounds, took_part
from sonoshare_shared.protocol.documents.exchange import decode_frame
from sonoshare_shared.science.model.adapter import adapter_from_bytes, load_adapter
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.diffusion import stratified_times
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.phantom.dicom_study import write_studies

PATIENTS: Final = 24
NOMINAL: Final = 18
DELTA: Final = 3e-3
STUDY: Final = "losses"
AWAY: Final = 0.12
ANSWER_LOST: Final = 0.08
STARTED_AGAIN: Final = 0.08
MOST_ATTEMPTS: Final = 100
"""Without an end for what is no accident."""
HELD_OUT: Final = 64
HELD_OUT_SEED: Final = 77


@dataclass
class LossyFleet:
    """Frames go straight to agents, unless their hospital is away in this round or its answer is lost."""

    nodes: dict[str, Node]
    chance: random.Random
    agents: dict[str, Agent] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.agents = {hospital: Agent(node) for hospital, node in self.nodes.items()}

    def throw(self) -> None:
        """What becomes of each hospital in the next attempt at a round."""
        coins = {hospital: self.chance.random() for hospital in sorted(self.nodes)}
        self.away = {hospital for hospital, coin in coins.items() if coin < AWAY}
        self.lost = {hospital for hospital, coin in coins.items() if AWAY <= coin < AWAY + ANSWER_LOST}
        for hospital in sorted(self.nodes):
            if self.chance.random() < STARTED_AGAIN:
                self.nodes[hospital] = Node.open(self.nodes[hospital].home)
                self.agents[hospital] = Agent(self.nodes[hospital])

    def ask(self, requests: Mapping[str, bytes], deadline_seconds: float) -> Iterator[dict[str, bytes | None]]:
        """See ``federation.fleet``; a hospital that is lost is silent, whatever the deadline."""
        del deadline_seconds
        for hospital, frame in requests.items():
            if hospital in self.away:
                continue
            answer = self.agents[hospital].answer(frame)
            training = json.loads(decode_frame(frame)[0])["kind"] == "train"
            trained = training and json.loads(decode_frame(answer)[0]).get("refusal") is None
            if not (trained and hospital in self.lost):
                yield {hospital: answer}


def policy() -> Policy:
    """Rules that permit the study."""
    return Policy(
        budget=BudgetRules(study_epsilon=40.0, lifetime_epsilon=80.0, delta=DELTA),
        cohort=CohortRules(nominal=NOMINAL, held_out_fraction=0.25, minimum_trained=3, minimum_held_out=1),
        federation=FederationRules(reply_slot_seconds=0),
    )


def consortium(folder: Path, hospitals: int, rounds: int) -> tuple[CoordinatorHome, dict[str, Node]]:
    """A coordinator with a drafted study, and a node for each hospital."""
    audit = audit_policy(1.0, 0.1, 0.7, 0.05)
    home = create_coordinator(folder / "coordinator", Consortium("losses", audit), ("localhost",))
    homes: dict[str, NodeHome] = {}
    for number in range(hospitals):
        name = f"hospital-{number:02d}"
        archive = write_studies(folder / "archives" / name, patients=PATIENTS, seed=number, hospitals=[name], size=96)
        homes[name] = NodeHome.create(folder / name, name, policy=policy())
        ingest(homes[name], archive.parent)
        admit(home, name, homes[name].identity().public.hex, homes[name].node_public_key)
    for node_home in homes.values():
        enrol(node_home.state_path, home.roster_envelope, home.root)
    terms = StudyTerms(
        study=STUDY,
        task=DIAGNOSIS,
        cohorts=dict.fromkeys(homes, NOMINAL),
        audit=audit,
        epsilon=30.0,
        delta=DELTA,
        rounds=rounds,
        local_steps=2,
        images=16,
        profile="tiny",
        epsilon_calibration=0.0,
    )
    drafted = draft_study(terms)
    home.create_study(drafted.plan, drafted.adapter, drafted.adapter_digest)
    return home, {name: Node.open(node_home) for name, node_home in homes.items()}


def trained_with_losses(home: CoordinatorHome, fleet: LossyFleet) -> int:
    """Train to the end; returns how often a round had too few and was run again."""
    study, again = home.study(STUDY), 0
    commit = study.advance

    def advance(number: int, digest: str) -> None:
        commit(number, digest)
        fleet.throw()

    study.advance = advance  # type: ignore[method-assign]
    fleet.throw()
    while study.state.rounds_done < study.plan.rounds:
        try:
            train(Coordinator(home, study, fleet, home.log()))
        except FederationError:
            again += 1
            if again > MOST_ATTEMPTS:
                raise
            fleet.throw()
    return again


def held_out_loss(study: Study, number: int) -> float:
    """Loss of phantoms that nobody trained on, at the times of the training draws, with the model before a round."""
    model, _ = load_base("tiny")
    load_adapter(model, adapter_from_bytes(study.adapter_of(number)))
    phantoms = simulate(HELD_OUT, seed=HELD_OUT_SEED, size=model.profile.size)
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    images = torch.from_numpy(phantoms.images)[:, None]
    noise = torch.randn(images.shape, generator=generator)
    times = stratified_times(HELD_OUT, generator, study.plan.last_time)
    condition = Condition.of(phantoms.labels, phantoms.scanners, phantoms.boxes)
    with torch.no_grad():
        masks = torch.from_numpy(phantoms.masks)[:, None]
        return float(denoising_loss(model, images, masks, condition, times, noise).mean())


def told(home: CoordinatorHome, fleet: LossyFleet) -> dict[str, Any]:
    """What ledgers, stored results and the log say when all is over."""
    study, index = home.study(STUDY), home.log().index
    plan, closed = study.plan, closed_rounds(index, STUDY)
    named = {(hospital, each.round) for each in closed.values() for hospital in each.hospitals}
    charged = {hospital: _charged(node) for hospital, node in fleet.nodes.items()}
    numbers = range(1, plan.rounds + 1)
    trained = {h: {n for n in numbers if node.replies.holds(train_slot(STUDY, n))} for h, node in fleet.nodes.items()}
    verified = 0
    for node in fleet.nodes.values():
        node.ledger.verify()  # raises where it is not intact
        verified += 1
    mechanism = plan.mechanism
    planned = epsilon([SampledGaussian(mechanism.rate, mechanism.noise_multiplier, plan.steps)], DELTA)
    spent = {hospital: node.ledger.spent(DELTA, study=STUDY).epsilon for hospital, node in fleet.nodes.items()}
    return {
        "rounds_done": study.state.rounds_done,
        "closed": len(closed),
        "hospitals_by_round": [len(closed[number].hospitals) for number in numbers],
        "took_part": len(took_part(index, STUDY, plan.rounds) or ()),
        "charged_by_hospital": [len(charged[hospital]) for hospital in sorted(charged)],
        "trained_by_hospital": [len(trained[hospital]) for hospital in sorted(trained)],
        "under_counts": sum(len(trained[hospital] - set(charged[hospital])) for hospital in trained)
        + sum(number not in charged[hospital] for hospital, number in named),
        "unused_charges": sum((h, number) not in named for h, rounds in charged.items() for number in rounds),
        "epsilon_planned": round(planned, 3),
        "epsilon_by_hospital": [round(spent[hospital], 3) for hospital in sorted(spent)],
        "ledgers_verified": verified,
    }


def _charged(node: Node) -> list[int]:
    """Rounds of the study that a ledger holds a charge for, each as often as it was charged."""
    purposes = [signed.charge.purpose for signed in node.ledger.entries() if signed.charge.kind == "reserved"]
    return [int(purpose.removeprefix("training round ")) for purpose in purposes]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hospitals", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        home, nodes = consortium(Path(folder), options.hospitals, options.rounds)
        fleet = LossyFleet(nodes, random.Random(options.seed))  # noqa: S311 - accidents, not noise
        again = trained_with_losses(home, fleet)
        study = home.study(STUDY)
        tenths = sorted({round(options.rounds * tenth / 10) for tenth in range(11)})
        losses = {number: round(held_out_loss(study, number), 5) for number in tenths}
        result = {"hospitals": options.hospitals, "quorum": study.plan.quorum, "run_again": again, **told(home, fleet)}
        result |= {"held_out_loss": losses, "cpu_seconds": round(time.process_time() - start)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
