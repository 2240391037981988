"""The whole journey on one machine, stage by stage, with nothing that a real consortium does not do.

The demonstration stands for everybody at once, which a real consortium never does: it makes every hospital's folder,
plays the coordinator, and is the researcher. What it alone may do, because it holds all data, is to test a classifier
on the hospitals' held-out patients; in a federation such a figure would be a charge, so it is shown here and never
written into the release.
"""

import math
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sonoshare_client.intake.ingest import ingest_table
from sonoshare_client.intake.report import Quarantined
from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import AuditRules, BudgetRules, CohortRules, FederationRules, Policy
from sonoshare_deploy import coordinator
from sonoshare_deploy.addresses import LOOPBACK, Addresses, free_ports, require_free
from sonoshare_deploy.coordinator_service import wait_until_ready
from sonoshare_deploy.demo.cohorts import HELD_OUT_FRACTION, Cohort, cohorts_of, scanners_of
from sonoshare_deploy.demo.display import Display, Stage
from sonoshare_deploy.demo.phantoms import simulated_cohorts
from sonoshare_deploy.demo.researcher import download_and_verify
from sonoshare_deploy.processes import Supervisor
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium import terms
from sonoshare_server.consortium.admission import admit
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.consortium.publication import publish_release
from sonoshare_server.consortium.registration import register_nodes
from sonoshare_server.consortium.studies import draft_study
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.release.pipeline import facts_for
from sonoshare_server.release.workers import Part
from sonoshare_shared.errors import InputError, RefusedError
from sonoshare_shared.protocol.documents import AuditStatement
from sonoshare_shared.protocol.documents.plan import Profile
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.model.profiles import profile_named

if TYPE_CHECKING:
    import torch

STUDY: Final = "demo"
RELEASE: Final = "demo-1"
CONSORTIUM: Final = "demo-consortium"
LOCAL_STEPS: Final = 8
EPSILON_AUDIT: Final = 2.0
ALPHA: Final = 0.01
ENOUGH_PATIENTS: Final = 150
REPLY_SLOT_SECONDS: Final = 2.5  # doubled as often as need be; shorter than a hospital's: somebody sits and waits
BUDGET_MARGIN: Final = 1.25
NEEDED_DISK_BYTES: Final = 2 << 30
SHOWN: Final = 5  # quarantined files that are named on the terminal; all of them are in the JSON result


@dataclass(frozen=True)
class DemoSettings:
    """What the user chose.

    Attributes:
        work: folder that everything goes into; absent or empty.
        data: a folder with labels, or None for phantoms.
        hospitals: how many, where the data do not say.
        rounds: federated rounds.
        epsilon: of training, votes and audits together, for each patient.
        images: images of the release.
        profile: size of the model.
        port: of the catalogue; 0 takes a free one.
        device: where hospitals and coordinator compute.
    """

    work: Path
    data: Path | None = None
    hospitals: int = 3
    rounds: int = 3
    epsilon: float = 8.0
    images: int = 600
    profile: Profile = "small"
    port: int = 0
    device: "torch.device" = CPU


@dataclass
class Journey:
    """The demonstration's state while it runs."""

    settings: DemoSettings
    display: Display
    supervisor: Supervisor
    cohorts: tuple[Cohort, ...] = ()
    nodes: dict[str, NodeHome] = field(default_factory=dict)
    quarantined: tuple[Quarantined, ...] = ()
    said: dict[str, AuditStatement] = field(default_factory=dict)
    bundle: Path | None = None
    refusal: str | None = None
    addresses: Addresses | None = None

    @property
    def home(self) -> CoordinatorHome:
        """The coordinator's folder."""
        return CoordinatorHome(self.settings.work / "coordinator")

    @property
    def study(self) -> Study:
        """The study."""
        return self.home.study(STUDY)

    @property
    def candidate(self) -> Path:
        """Folder of the candidate that the hospitals audited."""
        return self.study.candidate(RELEASE).path

    def run(self) -> None:
        """Every stage in order; a refusal of the gate ends the journey without an exception."""
        self._gather()
        self._found_consortium()
        self._take_in()
        self._start_processes()
        self._train()
        self._make_release()
        if self.bundle is not None:
            self._research()

    def _gather(self) -> None:
        settings = self.settings
        if settings.port:
            require_free(LOOPBACK, settings.port)
        require_room(settings.work)
        with self.display.stage("data", "Data") as stage:
            if settings.data is None:
                stage.note("simulating patients")
                self.cohorts = simulated_cohorts(settings.work / "archives", settings.hospitals)
            else:
                self.cohorts = cohorts_of(read_labels(settings.data, terms.DIAGNOSIS.classes), settings.hospitals)
            self._scanners = scanners_of(self.cohorts, profile_named(settings.profile).scanner_slots)
            shares = ", ".join(f"{cohort.hospital} {cohort.patients}" for cohort in self.cohorts)
            stage.summary = f"{sum(len(cohort.table) for cohort in self.cohorts)} images; patients: {shares}"

    def _found_consortium(self) -> None:
        with self.display.stage("consortium", "Consortium: keys, certificates, roster") as stage:
            tolerance = Tolerance.of(self.cohorts)
            audit = audit_policy(EPSILON_AUDIT, tolerance.share, tolerance.auc, ALPHA)
            home = create_coordinator(
                self.settings.work / "coordinator", Consortium(CONSORTIUM, audit), (LOOPBACK, "localhost")
            )
            for cohort in self.cohorts:
                node = NodeHome.create(
                    self.settings.work / "hospitals" / cohort.hospital,
                    cohort.hospital,
                    policy=hospital_policy(cohort, self.settings.epsilon, study_delta(self.cohorts), tolerance),
                    device=str(self.settings.device),
                )
                self.nodes[cohort.hospital] = node
                admit(home, cohort.hospital, node.identity().public.hex, node.node_public_key)
            for node in self.nodes.values():
                witness.enrol(node.state_path, home.roster_envelope, home.root)
            stage.summary = (
                f"{len(self.nodes)} hospitals; tolerated: copies of less than {tolerance.share:.0%} of a hospital's "
                f"patients, membership AUC below {tolerance.auc:g}"
            )

    def _take_in(self) -> None:
        with self.display.stage("intake", "Intake: de-identify, encrypt, split") as stage:
            accepted = held_back = 0
            for cohort in self.cohorts:
                stage.note(cohort.hospital)
                report = ingest_table(
                    self.nodes[cohort.hospital],
                    cohort.table,
                    classes=terms.DIAGNOSIS.classes,
                    jobs=max(1, os.cpu_count() or 1),
                    progress=stage.count,
                    device=self.settings.device,
                )
                accepted, held_back = accepted + report.accepted, held_back + len(report.twins)
                self.quarantined += report.quarantined
            stage.summary = f"{accepted} images accepted, {len(self.quarantined)} quarantined"
            if held_back:
                stage.summary += f", {held_back} pairs of patients held back who look like one person"
            for entry in self.quarantined[:SHOWN]:
                self.display.say(f"  set aside: {entry.where}: {entry.reason}")
            if accepted == 0:
                raise InputError("no image could be taken in", remedy="see what intake needs: docs/how-to/own-data.md")

    def _start_processes(self) -> None:
        with self.display.stage("federation", "Federation: SuperLink, agents, couriers") as stage:
            fleet, control, catalogue, *runtimes = free_ports(3 + len(self.nodes))
            options = {"fleet": fleet, "control": control, "catalogue": self.settings.port or catalogue}
            flags = [part for name, port in options.items() for part in (f"--{name}", f"{LOOPBACK}:{port}")]
            self._start("coordinator", ["coordinator", "start", "--home", str(self.home.path), *flags])
            stage.note("SuperLink")
            self.addresses = wait_until_ready(self.home, self.supervisor)
            register_nodes(self.home, coordinator.control_of(self.home))
            for (hospital, node), port in zip(self.nodes.items(), runtimes, strict=True):
                connect = ["--superlink", self.addresses.fleet, "--root-certificate", str(self.home.authority_path)]
                place = ["--home", str(node.path), "--runtime-port", str(port)]
                self._start(hospital, ["hospital", "start", *place, *connect])
            stage.summary = "TLS, node authentication, fleet routes only"

    def _start(self, name: str, arguments: Sequence[str]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "sonoshare_deploy.cli.main", *arguments]
        self.supervisor.start(name, command, environment)

    def _train(self) -> None:
        settings = self.settings
        with self.display.stage("training", "Training under patient-level differential privacy") as stage:
            stage.note("planning")
            drafted = draft_study(
                terms.StudyTerms(
                    study=STUDY,
                    task=terms.DIAGNOSIS.model_copy(update={"scanners": self._scanners}),
                    cohorts={cohort.hospital: cohort.nominal for cohort in self.cohorts},
                    audit=Consortium.read(self.home).audit,
                    epsilon=settings.epsilon,
                    delta=study_delta(self.cohorts),
                    rounds=settings.rounds,
                    local_steps=LOCAL_STEPS,
                    images=settings.images,
                    profile=settings.profile,
                ),
                settings.device,
            )
            study = self.home.create_study(drafted.plan, drafted.adapter, drafted.adapter_digest, drafted.ballot)
            coordinator.act(self.home, study, "train", watch=lambda: self._watch(study, stage))
            sigma = drafted.plan.mechanism.noise_multiplier
            stage.summary = f"{settings.rounds} rounds of {LOCAL_STEPS} steps, noise multiplier {sigma:.2f}"

    def _watch(self, study: Study, stage: Stage) -> None:
        self.supervisor.require_running()
        events = study.events()
        updates = sum(event["kind"] == "update" for event in events)
        stage.count(updates, study.plan.rounds * len(self.nodes))
        rounds = [event["round"] for event in events if event["kind"] == "round"]
        if rounds:
            stage.note(f"round {rounds[-1]} of {study.plan.rounds}")

    def _make_release(self) -> None:
        study = self.study
        steps = coordinator.pipeline(self.home, study, RELEASE, watch=self.supervisor.require_running)
        if study.plan.calibration is not None:
            with self.display.stage("votes", "Votes: which phantoms look like the patients") as stage:
                steps.calibrate()
                stage.summary = f"one vote a trained patient, ε = {study.plan.calibration.epsilon:g} at each hospital"
        with self.display.stage("sampling", "Sampling the candidate release") as stage:
            steps.draw(stage.count, part=Part(steps.bases, self.settings.device))
            stage.summary = f"{study.plan.release.images} images, half of each class"
        with self.display.stage("audits", "Audits: every hospital on its own patients") as stage:
            self.said = steps.audit()
            stage.summary = ", ".join(f"{h} {s.predicate.verdict}" for h, s in sorted(self.said.items()))
        with self.display.stage("signing", "Gate, signatures, transparency log") as stage:
            try:
                facts = facts_for(self.home, study, coordinator.now())
                self.bundle = steps.finish(facts)
                publish_release(self.home, RELEASE)
                stage.summary = "published"
            except RefusedError as error:
                self.refusal = error.message
                stage.summary = "refused: nothing is published"

    def _research(self) -> None:
        with self.display.stage("research", "Researcher: download, verify offline") as stage:
            if self.addresses is None:
                raise InputError("the catalogue does not run")
            out = self.settings.work / "researcher" / RELEASE
            download_and_verify(self.addresses.catalogue, RELEASE, out, self.home.roster_path)
            stage.summary = "verified with the network out of reach"


@dataclass(frozen=True)
class Tolerance:
    """What the consortium tolerates, openly: an audit of few patients can only exclude large leaks.

    Attributes:
        share: share of copied patients at which PASS is impossible.
        auc: membership AUC at which PASS is impossible.
    """

    share: float
    auc: float

    @classmethod
    def of(cls, cohorts: Sequence[Cohort]) -> "Tolerance":
        """Tolerance under which a clean release passes nearly always in the smallest hospital (docs/audits.md)."""
        return cls(0.1, 0.75) if min(cohort.nominal for cohort in cohorts) >= ENOUGH_PATIENTS else cls(0.2, 0.85)


def hospital_policy(cohort: Cohort, epsilon: float, delta: float, tolerance: Tolerance) -> Policy:
    """The rules a demonstration hospital starts with: this study fits, little more does."""
    return Policy(
        budget=BudgetRules(
            study_epsilon=epsilon * BUDGET_MARGIN, lifetime_epsilon=2 * epsilon * BUDGET_MARGIN, delta=delta
        ),
        cohort=CohortRules(nominal=cohort.nominal, held_out_fraction=HELD_OUT_FRACTION),
        audit=AuditRules(maximum_tolerated_share=tolerance.share, maximum_tolerated_auc=tolerance.auc),
        federation=FederationRules(reply_slot_seconds=REPLY_SLOT_SECONDS),
    )


def study_delta(cohorts: Sequence[Cohort]) -> float:
    """A tenth of 1 / nominal cohort of the largest hospital, rounded down to one digit."""
    delta = 0.1 / max(cohort.nominal for cohort in cohorts)
    exponent = math.floor(math.log10(delta))
    return float(f"{math.floor(delta / 10.0**exponent * (1 + 1e-9))}e{exponent}")


def require_room(work: Path) -> None:
    """Check the folder and the disk before anything is written.

    Raises:
        InputError: the folder is in use, or the disk is nearly full.
    """
    if work.exists() and any(work.iterdir()):
        raise InputError(f"{work} is not empty", remedy="choose another --work folder, or remove it")
    work.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(work).free
    if free < NEEDED_DISK_BYTES:
        raise InputError(
            f"{free / (1 << 30):.1f} GiB free; the demonstration needs {NEEDED_DISK_BYTES >> 30} GiB",
            remedy="free some space, or give --work on another disk",
        )
