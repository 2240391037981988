"""How long a release takes: votes, drawing, audits and signatures of 120 images of 64 px, by step and by hospital.

    python -m benchmarks.release [--patients 250] [--images 120] [--folder KEPT] [--agents] [--json]

Agents, plans, logs, ledgers and charges are the real ones; frames go straight from the coordinator to the agents. There
is no network, and no reply slot: ``federation.reply_slot_seconds`` (60 s as shipped) is a time that votes and audits
take at least, each, whatever their work takes.

Without ``--agents`` the hospitals are asked one after another in this one process, on as many threads as torch is given
(``OMP_NUM_THREADS``); ``on two idle cores`` is then processor seconds over two. With ``--agents`` each hospital's agent
is a process of its own and all are asked at once, as on one machine that runs three; seconds are those of the clock, so
they depend on what else the machine does. ``OMP_WAIT_POLICY=PASSIVE`` before the command lets threads sleep while they
wait, as ``sonoshare`` does for its own (``sonoshare_deploy.openmp``); this one leaves it to the library, as before.

Patients are phantoms; half of them have two pictures, half three. The study has one step: a release takes as long after
many.
"""

import argparse
import csv
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import psutil
import torch

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.server import AgentServer
from sonoshare_client.agent.service import Agent
from sonoshare_client.intake.ingest import ingest_table
from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import AuditRules, BudgetRules, CohortRules, FederationRules, Policy
from sonoshare_client.node.socket import ask_agent
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium import terms
from sonoshare_server.consortium.admission import admit
from sonoshare_server.consortium.audit_terms import HELD_OUT_FRACTION, audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.consortium.studies import draft_study
from sonoshare_server.federation.calibration import collect_votes
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.rounds import train
from sonoshare_server.federation.statements import collect_signatures, collect_statements
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.release.pipeline import Pipeline, facts_for
from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.documents.exchange import decode_frame
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.labels import LABELS_FILE, read_labels
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.phantom import CLASSES, simulate

HOSPITALS: Final = ("north", "south", "west")
STUDY: Final = "study"
RELEASE: Final = "release"
PICTURE_PX: Final = 128
BAR_SECONDS: Final = 90.0
"""Of two idle cores, for votes, drawing, audits and signatures together."""


@dataclass
class TimedFleet:
    """Frames go straight to agents; what each answer took is written down.

    Attributes:
        agents: by hospital.
        took: processor seconds by kind of request and hospital.
    """

    agents: dict[str, Agent]
    took: dict[str, dict[str, float]] = field(default_factory=dict)

    def ask(self, requests: Mapping[str, bytes], deadline_seconds: float) -> Iterator[dict[str, bytes | None]]:
        """See ``federation.fleet``."""
        del deadline_seconds
        for hospital, frame in requests.items():
            before = time.process_time()
            answer = self.agents[hospital].answer(frame)
            self.note(hospital, frame, time.process_time() - before)
            yield {hospital: answer}

    def note(self, hospital: str, frame: bytes, seconds: float) -> None:
        """Write down what an answer took."""
        of_kind = self.took.setdefault(json.loads(decode_frame(frame)[0])["kind"], {})
        of_kind[hospital] = of_kind.get(hospital, 0.0) + seconds


@dataclass
class ProcessFleet(TimedFleet):
    """Agents in processes of their own, asked all at once; what is written down is their own processor time.

    Attributes:
        sockets: by hospital.
        processes: by hospital.
    """

    agents: dict[str, Agent] = field(default_factory=dict)
    sockets: dict[str, Path] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def started(cls, folder: Path) -> "ProcessFleet":
        """Start an agent for each hospital, and wait until it answers."""
        fleet = cls()
        for hospital in HOSPITALS:
            fleet.sockets[hospital] = folder / f"{hospital}.sock"
            command = [sys.executable, "-m", "benchmarks.release", "--serve", str(folder), hospital]
            fleet.processes[hospital] = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while not all(path.exists() for path in fleet.sockets.values()):
            if any(process.poll() is not None for process in fleet.processes.values()):
                raise FederationError("an agent ended", remedy="see what it said")
            time.sleep(0.1)
        return fleet

    def end(self) -> None:
        """End the agents."""
        for process in self.processes.values():
            process.terminate()
            process.wait()

    def ask(self, requests: Mapping[str, bytes], deadline_seconds: float) -> Iterator[dict[str, bytes | None]]:
        """See ``federation.fleet``."""
        with ThreadPoolExecutor(len(HOSPITALS)) as pool:
            asked = [pool.submit(self._ask_one, *request, deadline_seconds) for request in requests.items()]
            for one in as_completed(asked):
                yield one.result()

    def _ask_one(self, hospital: str, frame: bytes, deadline_seconds: float) -> dict[str, bytes | None]:
        agent = psutil.Process(self.processes[hospital].pid)
        before = sum(agent.cpu_times()[:2])
        answer = ask_agent(self.sockets[hospital], frame, deadline_seconds)
        self.note(hospital, frame, sum(agent.cpu_times()[:2]) - before)
        return {hospital: answer}


def serve(folder: Path, hospital: str) -> None:
    """Be the agent of a hospital until told to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    server = AgentServer(folder / f"{hospital}.sock", Agent(Node.open(NodeHome.open(folder / hospital))))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


def make(folder: Path, patients: int, images: int) -> CoordinatorHome:
    """A consortium of three hospitals with phantoms for patients, and a study that is not trained yet."""
    nominal = round(patients * (1 - HELD_OUT_FRACTION))
    audit = audit_policy(4.0, 0.5, 0.95, 0.01)
    home = create_coordinator(folder / "coordinator", Consortium("bench", audit), ("localhost",))
    homes = [NodeHome.create(folder / name, name, policy=_policy(nominal), device="cpu") for name in HOSPITALS]
    for seed, node in enumerate(homes):
        table = read_labels(_pictures(folder / "pictures" / node.hospital, node.hospital, patients, seed), CLASSES)
        ingest_table(node, table, classes=CLASSES, jobs=1)
        admit(home, node.hospital, node.identity().public.hex, node.node_public_key)
    for node in homes:
        witness.enrol(node.state_path, home.roster_envelope, home.root)
    drafted = draft_study(
        terms.StudyTerms(
            study=STUDY,
            task=terms.DIAGNOSIS,
            cohorts=dict.fromkeys(HOSPITALS, nominal),
            audit=audit,
            epsilon=14.0,
            delta=1e-3,
            rounds=1,
            local_steps=1,
            images=images,
            profile="small",
        )
    )
    home.create_study(drafted.plan, drafted.adapter, drafted.adapter_digest, drafted.ballot)
    return home


def _policy(nominal: int) -> Policy:
    return Policy(
        budget=BudgetRules(study_epsilon=60.0, lifetime_epsilon=100.0, delta=1e-3),
        cohort=CohortRules(
            nominal=nominal, held_out_fraction=HELD_OUT_FRACTION, minimum_trained=5, minimum_held_out=2
        ),
        audit=AuditRules(
            maximum_epsilon_copies=12, maximum_epsilon_membership=12, maximum_tolerated_share=0.9,
            maximum_tolerated_auc=0.99,
        ),
        federation=FederationRules(reply_slot_seconds=0),
    )  # fmt: skip


def _pictures(folder: Path, hospital: str, patients: int, seed: int) -> Path:
    folder.mkdir(parents=True)
    pictures = [2 + place % 2 for place in range(patients)]
    made = simulate(sum(pictures), seed=7_000 + seed, size=PICTURE_PX)
    rows, place = [], 0
    for patient, count in enumerate(pictures):
        label = CLASSES[int(made.labels[place])]
        for _ in range(count):
            name = f"{hospital}-{place}.png"
            save_png(folder / name, eight_bits(made.images[place]))
            rows.append((name, f"{hospital}-{patient}", label))
            place += 1
    with (folder / LABELS_FILE).open("w", newline="") as file:
        csv.writer(file).writerows([("image", "patient", "label"), *rows])
    return folder


def in_this_process(folder: Path) -> TimedFleet:
    """Agents that are asked one after another."""
    nodes = {name: Node.open(NodeHome.open(folder / name)) for name in HOSPITALS}
    return TimedFleet({name: Agent(node) for name, node in nodes.items()})


def measure(folder: Path, fleet: TimedFleet) -> dict[str, Any]:
    """Train one step, make the release, and tell what each part took."""
    home = CoordinatorHome(folder / "coordinator")

    def coordinator() -> Coordinator:
        return Coordinator(home, home.study(STUDY), fleet, home.log())

    def act(action: Literal["calibrate", "audit", "sign"], release: str) -> None:
        if action == "calibrate":
            collect_votes(coordinator())
        elif action == "audit":
            collect_statements(coordinator(), release)
        else:
            collect_signatures(coordinator(), release)

    train(coordinator())
    fleet.took.clear()
    steps = Pipeline(home=home, study=home.study(STUDY), release=RELEASE, act=act)
    timed: dict[str, tuple[float, float]] = {}

    def step(name: str, what: Any) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        what()
        timed[name] = (time.perf_counter() - wall, time.process_time() - processor)

    step("votes", steps.calibrate)
    step("drawing", lambda: steps.draw(lambda _done, _of: None))
    step("audits", steps.audit)
    verdicts = {name: statement.predicate.verdict for name, statement in steps.said().items()}
    if set(verdicts.values()) == {"PASS"}:
        step("signatures and sealing", lambda: steps.finish(facts_for(home, steps.study, datetime.now(UTC))))
    # What agents in processes of their own take is not this process's.
    elsewhere = sum(sum(of.values()) for of in fleet.took.values()) if isinstance(fleet, ProcessFleet) else 0.0
    processor = sum(of[1] for of in timed.values()) + elsewhere
    return {
        "threads": torch.get_num_threads(),
        "steps": {name: {"wall": round(of[0], 1), "processor": round(of[1], 1)} for name, of in timed.items()},
        "hospitals": {
            kind: {name: round(seconds, 1) for name, seconds in of.items()} for kind, of in fleet.took.items()
        },
        "verdicts": verdicts,
        "processor_seconds": round(processor, 1),
        "wall_seconds": round(sum(of[0] for of in timed.values()), 1),
        "two_cores_seconds": round(processor / 2, 1),
        "bar_seconds": BAR_SECONDS,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=250, help="at each hospital")
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument(
        "--folder", type=Path, help="an untrained consortium that is kept there, and made if it is absent"
    )
    parser.add_argument("--agents", action="store_true", help="each agent in a process of its own, all at once")
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "HOSPITAL"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.serve:
        serve(Path(asked.serve[0]), asked.serve[1])
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "measured"
        kept = asked.folder
        if kept is None or not kept.exists():
            make(folder if kept is None else kept, asked.patients, asked.images)
        if kept is not None:
            shutil.copytree(kept, folder)
            for named in folder.glob("*/home.toml"):
                named.write_text(named.read_text().replace(str(kept.resolve()), str(folder)))
        if asked.agents:
            fleet = ProcessFleet.started(folder)
            try:
                found = measure(folder, fleet)
            finally:
                fleet.end()
        else:
            found = measure(folder, in_this_process(folder))
    if asked.json:
        print(json.dumps(found, indent=1))
        return
    for name, of in found["steps"].items():
        print(f"{name:24} {of['processor']:8.1f} s of a processor, {of['wall']:8.1f} s of the wall")
    for kind, by_hospital in found["hospitals"].items():
        print(f"  {kind:22} " + "  ".join(f"{name} {seconds:.1f}" for name, seconds in by_hospital.items()))
    print(f"{found['wall_seconds']:.1f} s of the wall; {found['processor_seconds']:.1f} s of processors")
    print(f"on two idle cores: {found['two_cores_seconds']:.1f} s; bar {found['bar_seconds']:.0f} s")
    print(found["verdicts"])


if __name__ == "__main__":
    main()
