"""A whole consortium in one process: real agents, real documents, a fleet that calls the agents directly."""

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.service import Agent
from sonoshare_client.intake.ingest import ingest
from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import AuditRules, BudgetRules, CohortRules, FederationRules, Policy
from sonoshare_client.vault.dataset import TrainingSet, grid
from sonoshare_client.vault.store import Vault
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium import terms
from sonoshare_server.consortium.admission import admit
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.consortium.studies import draft_study
from sonoshare_server.federation.calibration import collect_votes
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.statements import collect_signatures, collect_statements
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.release.pipeline import Pipeline
from sonoshare_shared.protocol.documents import AuditPlan, Task
from sonoshare_shared.protocol.documents.exchange import decode_frame
from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.labels import LABELS_FILE
from sonoshare_shared.science.phantom.dicom_study import write_studies
from sonoshare_shared.science.precision import FLOAT32

HOSPITALS = ("north", "south")
PATIENTS = 44
NOMINAL = 30
STUDY = "study"


@dataclass
class DirectFleet:
    """Frames go straight to the agents.

    ``lost`` hospitals do not answer (requests of the kind ``lost_at``, if that is given), ``changed`` ones answer
    something else than asked (but introduce themselves).
    """

    agents: dict[str, Agent]
    lost: set[str] = field(default_factory=set)
    lost_at: str | None = None
    changed: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, bytes]] = field(default_factory=list)

    def ask(self, requests: Any, deadline_seconds: Any) -> Iterator[dict[Any, Any]]:
        self.asked += list(requests.items())
        for hospital, frame in requests.items():
            if not self._is_lost(hospital, frame):
                yield {hospital: self._answer(hospital, frame)}

    def kinds(self, hospital: Any = None) -> list[str]:
        """Kinds of the requests so far, of one hospital or of all."""
        return [kind_of(frame) for asked, frame in self.asked if hospital in {None, asked}]

    def _is_lost(self, hospital: Any, frame: Any) -> bool:
        return hospital in self.lost and self.lost_at in {None, kind_of(frame)}

    def _answer(self, hospital: Any, frame: Any) -> bytes:
        answer = self.agents[hospital].answer(frame)
        return answer if kind_of(frame) == "keys" else self.changed.get(hospital, answer)


def kind_of(frame: bytes) -> str:
    """Kind of a request."""
    return json.loads(decode_frame(frame)[0])["kind"]  # type: ignore[no-any-return]


@dataclass
class World:
    home: CoordinatorHome
    nodes: dict[str, Node]
    fleet: DirectFleet

    @property
    def study(self) -> Study:
        return self.home.study(STUDY)

    def coordinator(self) -> Coordinator:
        return Coordinator(self.home, self.study, self.fleet, self.home.log())

    def reopen(self, hospital: str) -> Node:
        """Restart a hospital's agent."""
        self.nodes[hospital] = Node.open(self.nodes[hospital].home)
        self.fleet.agents[hospital] = Agent(self.nodes[hospital])
        return self.nodes[hospital]


def policy(**budget: Any) -> Policy:
    rules = {"study_epsilon": 40.0, "lifetime_epsilon": 80.0, "delta": 3e-3, **budget}
    return Policy(
        budget=BudgetRules(**rules),
        cohort=CohortRules(nominal=NOMINAL, held_out_fraction=0.25, minimum_trained=5, minimum_held_out=2),
        audit=AuditRules(
            maximum_epsilon_copies=12,
            maximum_epsilon_membership=12,
            maximum_epsilon_veto=12,
            maximum_tolerated_share=0.9,
            maximum_tolerated_auc=0.99,
        ),
        federation=FederationRules(reply_slot_seconds=0),
    )


def vault_key(folder: Path, hospital: str) -> Path:
    """A key that is the same in every run: with a fresh one, a hundredth of the splits hold out too few to judge."""
    path = folder / f"{hospital}.vault.key"
    path.touch(mode=0o600)
    path.write_bytes(hashlib.sha256(hospital.encode()).digest())
    return path


def build(
    folder: Path,
    archives: dict[str, Path],
    *,
    rounds: int = 2,
    local_steps: int = 2,
    canaries: int = 0,
    audit: AuditPlan | None = None,
    ballot: Path | None = None,
    task: Task = terms.DIAGNOSIS,
    precision: Precision = FLOAT32,
    candidates: int | None = None,
    cohorts: tuple[str, ...] = HOSPITALS,
    quorum: int | None = None,
) -> World:
    """Make a coordinator and a hospital for each archive, enrolled, and a study of those that ``cohorts`` names."""
    audit = audit or audit_policy(16.0, 0.6, 0.97, 0.001)
    home = create_coordinator(folder / "coordinator", Consortium("test-consortium", audit), ("localhost",))
    homes = {}
    for hospital, archive in archives.items():
        key_file = vault_key(folder, hospital)
        homes[hospital] = NodeHome.create(folder / hospital, hospital, policy=policy(), vault_key=key_file)
        ingest(homes[hospital], archive)
        key = homes[hospital].identity().public.hex
        admit(home, hospital, key, homes[hospital].node_public_key)
    for node_home in homes.values():
        witness.enrol(node_home.state_path, home.roster_envelope, home.root)
    drafted = draft_study(
        terms.StudyTerms(
            study=STUDY,
            task=task,
            cohorts=dict.fromkeys(cohorts, NOMINAL),
            audit=audit,
            epsilon=30.0,
            delta=3e-3,
            rounds=rounds,
            local_steps=local_steps,
            images=16,
            profile="tiny",
            ballot=None if ballot is None else terms.read_ballot(ballot),
            precision=precision,
            candidates=candidates,
            quorum=quorum,
        )
    )
    plan = drafted.plan.model_copy(update={"canaries": canaries})
    home.create_study(plan, drafted.adapter, drafted.adapter_digest, drafted.ballot)
    nodes = {hospital: Node.open(node_home) for hospital, node_home in homes.items()}
    return World(home, nodes, DirectFleet({hospital: Agent(node) for hospital, node in nodes.items()}))


def archives_in(folder: Path, hospitals: Sequence[str] = HOSPITALS) -> dict[str, Path]:
    """A small simulated archive for each hospital."""
    return {
        hospital: write_studies(folder / hospital, patients=PATIENTS, seed=seed, hospitals=[hospital], size=96).parent
        for seed, hospital in enumerate(hospitals)
    }


def graded(archives: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The same archives with BI-RADS grades as labels: 2 or 3 for the benign, 4 or 5 for the malignant, by patient."""
    grades = {"benign": ("birads-2", "birads-3"), "malignant": ("birads-4", "birads-5")}
    for hospital, archive in archives.items():
        shutil.copytree(archive, folder / hospital)
        path = folder / hospital / LABELS_FILE
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        turns = {patient: number for number, patient in enumerate(dict.fromkeys(row["patient"] for row in rows))}
        for row in rows:
            row["label"] = grades[row["label"]][turns[row["patient"]] // 2 % 2]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return {hospital: folder / hospital for hospital in archives}


def copied(world: World, folder: Path) -> World:
    """The same consortium in another folder, as after a restart of everything."""
    return copy_from(world.home.path.parent, folder, tuple(world.nodes))


def copy_from(source: Path, folder: Path, hospitals: Sequence[str]) -> World:
    """A consortium in a copy of its folder, every agent started."""
    copy_folder(source, folder)
    nodes = {hospital: Node.open(NodeHome.open(folder / hospital)) for hospital in hospitals}
    fleet = DirectFleet({hospital: Agent(node) for hospital, node in nodes.items()})
    return World(CoordinatorHome(folder / "coordinator"), nodes, fleet)


def copy_folder(source: Path, folder: Path) -> Path:
    """A copy of a consortium's folder, vault keys included: what is done to one is done to no other."""
    shutil.copytree(source, folder)
    for named in folder.glob("*/home.toml"):
        named.write_text(named.read_text().replace(str(source), str(folder)))
    return folder


def patients_of(world: World, hospital: str, size: int) -> TrainingSet:
    """A hospital's patients of the study, by its own eyes: the agent itself opens them under a charge only."""
    plan = world.study.plan
    with Vault(world.nodes[hospital].home) as vault:
        return grid(vault, vault.enrolled(plan.study, settle=False), plan.task, size)


def pipeline(world: World, release: str = "r1") -> Pipeline:
    """The release pipeline over the direct fleet."""

    def act(action: Any, release: Any) -> None:
        actions = {"audit": collect_statements, "sign": collect_signatures}
        if action == "calibrate":
            collect_votes(world.coordinator())
        else:
            actions[action](world.coordinator(), release)

    return Pipeline(home=world.home, study=world.study, release=release, act=act)
