"""A consortium of real processes on this machine, for benchmarks and tests that kill some of them.

Every role is the command that a person would start (``sonoshare coordinator start``, ``hospital start``), and is
started again when it ends, as a service manager would do. Hospitals have phantoms for patients.
"""

import csv
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from sonoshare_client.intake.ingest import ingest_table
from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import AuditRules, BudgetRules, CohortRules, FederationRules, Policy
from sonoshare_deploy.addresses import LOOPBACK, free_ports
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.admission import admit
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.labels import LABELS_FILE, read_labels
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.phantom import CLASSES, simulate

COMMAND: Final = (sys.executable, "-m", "sonoshare_deploy.cli.main")
PICTURE_PX: Final = 64
NOMINAL: Final = 30
PATIENTS: Final = 44
DELTA: Final = 3e-3
READY_SECONDS: Final = 240.0
STOP_SECONDS: Final = 40.0
START_AGAIN_SECONDS: Final = 1.0


def hospital_policy() -> Policy:
    """Rules that refuse nothing of what is tried here but keep every check, and answer without a slot."""
    return Policy(
        budget=BudgetRules(study_epsilon=60.0, lifetime_epsilon=100.0, delta=DELTA),
        cohort=CohortRules(nominal=NOMINAL, held_out_fraction=0.25, minimum_trained=5, minimum_held_out=2),
        audit=AuditRules(maximum_tolerated_share=0.9, maximum_tolerated_auc=0.99),
        federation=FederationRules(reply_slot_seconds=0),
    )


def make_pictures(folder: Path, hospital: str, *, patients: int, seed: int) -> Path:
    """Phantoms as a labelled folder, one picture a patient."""
    folder.mkdir(parents=True)
    made = simulate(patients, seed=seed, size=PICTURE_PX)
    rows = []
    for i in range(patients):
        name = f"{hospital}-{i}.png"
        save_png(folder / name, eight_bits(made.images[i]))
        rows.append((name, f"{hospital}-{i}", CLASSES[int(made.labels[i])]))
    with (folder / LABELS_FILE).open("w", newline="") as file:
        csv.writer(file).writerows([("image", "patient", "label"), *rows])
    return folder


@dataclass
class Role:
    """A command that is to run all the time."""

    name: str
    command: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self, variables: dict[str, str]) -> None:
        """Start it in a session of its own."""
        self.starts += 1
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        """Whether it was started and runs no more."""
        return self.process is not None and self.process.poll() is not None


@dataclass
class RealConsortium:
    """Folders, roles, and who keeps the roles running.

    Attributes:
        folder: of everything.
        hospitals: their ids.
        host: address that hospitals connect to.
        inside: words before a role's command, like ``ip netns exec NAME``; a coordinator's commands have its words too.
        roles: what is kept running.
    """

    folder: Path
    hospitals: tuple[str, ...]
    host: str = LOOPBACK
    inside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    _closing: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread | None = None

    @classmethod
    def made(
        cls,
        folder: Path,
        hospitals: Sequence[str],
        *,
        host: str = LOOPBACK,
        inside: Mapping[str, tuple[str, ...]] | None = None,
    ) -> "RealConsortium":
        """Make the folders: keys, roster, patients."""
        this = cls(folder, tuple(hospitals), host, inside or {})
        audit = audit_policy(1.0, 0.6, 0.97, 0.001)
        home = create_coordinator(
            folder / "coordinator", Consortium("bench", audit), tuple({host, LOOPBACK, "localhost"})
        )
        nodes = []
        for seed, hospital in enumerate(hospitals):
            node = NodeHome.create(folder / hospital, hospital, policy=hospital_policy(), device="cpu")
            pictures = make_pictures(folder / "pictures" / hospital, hospital, patients=PATIENTS, seed=seed)
            ingest_table(node, read_labels(pictures, CLASSES), classes=CLASSES, jobs=1)
            admit(home, hospital, node.identity().public.hex, node.node_public_key)
            nodes.append(node)
        for node in nodes:
            witness.enrol(node.state_path, home.roster_envelope, home.root)
        return this

    def __enter__(self) -> Self:
        fleet, control, catalogue, *runtimes = free_ports(3 + len(self.hospitals))
        options = {"fleet": f"{self.host}:{fleet}", "control": f"{LOOPBACK}:{control}"}
        options["catalogue"] = f"{LOOPBACK}:{catalogue}"
        flags = [part for name, address in options.items() for part in (f"--{name}", address)]
        place = ("--home", str(self.folder / "coordinator"))
        self._role("coordinator", ["coordinator", "start", *place, *flags])
        connect = ["--superlink", options["fleet"], "--root-certificate", str(self.home.authority_path)]
        for hospital, port in zip(self.hospitals, runtimes, strict=True):
            node = ["--home", str(self.folder / hospital), "--runtime-port", str(port)]
            self._role(hospital, ["hospital", "start", *node, *connect])
        self._keeper = threading.Thread(target=self._keep_running, name="keeper", daemon=True)
        self._keeper.start()
        self.wait_until_ready()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._keeper is not None:
            self._keeper.join()
        for role in reversed(self.roles.values()):
            if role.process is not None:
                role.process.terminate()
        for role in self.roles.values():
            if role.process is not None:
                with suppress(subprocess.TimeoutExpired):
                    role.process.wait(timeout=STOP_SECONDS)

    @property
    def home(self) -> CoordinatorHome:
        """The coordinator's folder."""
        return CoordinatorHome(self.folder / "coordinator")

    @property
    def catalogue(self) -> str:
        """Address of the running coordinator's catalogue."""
        return str(json.loads(self.home.addresses_path.read_text())["catalogue"])

    @property
    def variables(self) -> dict[str, str]:
        """Environment of every process; it carries the folder's name, by which they are found again."""
        return {**os.environ, "OMP_NUM_THREADS": "1", MARK: str(self.folder)}

    def coordinator(self, *arguments: str, seconds: float = 1800.0) -> "subprocess.CompletedProcess[str]":
        """Run one of the coordinator's commands to its end."""
        return subprocess.run(
            self.command("coordinator", "coordinator", *arguments, "--home", str(self.home.path)),
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def command(self, role: str, *arguments: str) -> tuple[str, ...]:
        """The command line of something that runs where a role runs."""
        return (*self.inside.get(role, ()), *COMMAND, *arguments)

    def processes(self) -> list[psutil.Process]:
        """Every process of this consortium that lives, however it was detached from its parent."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get(MARK) == str(self.folder)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def wait_until_ready(self) -> None:
        """Wait until the coordinator listens and every hospital's agent and courier run."""
        end = time.monotonic() + READY_SECONDS
        while not self._ready():
            if time.monotonic() > end:
                raise TimeoutError(f"the consortium did not start: see {self.folder}")
            time.sleep(0.5)

    def _ready(self) -> bool:
        sockets = all((self.folder / hospital / "state" / "agent.sock").exists() for hospital in self.hospitals)
        return sockets and self.home.addresses_path.exists()

    def _role(self, name: str, arguments: list[str]) -> None:
        role = Role(name, self.command(name, *arguments), self.folder / f"{name}.log")
        role.start(self.variables)
        self.roles[name] = role

    def _keep_running(self) -> None:
        while not self._closing.wait(START_AGAIN_SECONDS):
            for role in self.roles.values():
                if role.ended and not self._closing.is_set():
                    role.start(self.variables)


MARK: Final = "SONOSHARE_BENCH_FOLDER"


def last_line(result: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """The JSON object that a command printed last."""
    loaded: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return loaded
