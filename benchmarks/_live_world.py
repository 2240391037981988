"""A consortium of real processes that is made and used by the command line alone, as people type it.

Every folder is made by ``coordinator init``, ``hospital init``, ``ingest``, ``admit`` and ``enrol``; every role is the
command that a person would start, and nothing is started again by itself. What does not hold raises ``JourneyError``.
"""

import contextlib
import hashlib
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import psutil

from benchmarks._real_consortium import (
    COMMAND,
    DELTA,
    NOMINAL,
    PATIENTS,
    RealConsortium,
    hospital_policy,
    make_pictures,
)
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_client.node.policy import AuditRules, BudgetRules, Policy
from sonoshare_client.node.policy_file import policy_text
from sonoshare_deploy.addresses import LOOPBACK, free_ports
from sonoshare_server.home import Study

MOST_SECONDS: Final = 600.0
"""Of one command, and of one wait: many other programs may share the machine."""
LOOK_SECONDS: Final = 0.1


class JourneyError(Exception):
    """Something was not as it must be."""


def require(holds: object, words: str) -> None:
    """Check what a journey rests on.

    Raises:
        JourneyError: it does not hold.
    """
    if not holds:
        raise JourneyError(words)


def rules() -> Policy:
    """Rules under which an audit of a few patients can see anything, so that honest releases pass."""
    return hospital_policy().model_copy(
        update={
            "budget": BudgetRules(study_epsilon=60.0, lifetime_epsilon=100.0, delta=DELTA),
            "audit": AuditRules(
                maximum_epsilon_copies=12,
                maximum_epsilon_membership=12,
                maximum_tolerated_share=0.9,
                maximum_tolerated_auc=0.99,
            ),
        }
    )


@dataclass
class Typed:
    """A command that was typed and is not waited for.

    Attributes:
        process: it.
        log: its output and its errors.
    """

    process: "subprocess.Popen[bytes]"
    log: Path

    def end(self, seconds: float = MOST_SECONDS) -> int:
        """Wait for its end; returns its exit status.

        Raises:
            JourneyError: it does not end.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise JourneyError(f"it does not end: {self.process.args!r}: {self.said()[-600:]}") from error

    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")


@dataclass
class Live(RealConsortium):
    """Folders and roles.

    Attributes:
        typed: how many commands were typed.
        ports: addresses of the coordinator's parts, the same at every start.
    """

    typed: int = 0
    ports: dict[str, str] = field(default_factory=dict)

    @classmethod
    def built(cls, folder: Path, hospitals: tuple[str, ...]) -> "Live":
        """From empty folders to an enrolled consortium."""
        folder.mkdir(parents=True, exist_ok=True)
        this = cls(folder, hospitals)
        audit = ("--epsilon-audit", "16", "--tolerated-share", "0.6", "--tolerated-auc", "0.97", "--alpha", "0.001")
        this.at("init", "--consortium", "live", *audit)
        for hospital in hospitals:
            this.join(hospital)
        for hospital in hospitals:
            this.enrol(hospital)
        return this

    def join(self, hospital: str) -> None:
        """Make a hospital's folder, fill its vault, and admit it."""
        key = self.folder / f"{hospital}.vault.key"
        key.touch(mode=0o600)
        # The same in every run: with a fresh one, one split in a hundred holds out too few to judge.
        key.write_bytes(hashlib.sha256(hospital.encode()).digest())
        words = ("--id", hospital, "--patients", str(NOMINAL), "--vault-key", str(key), "--device", "cpu")
        made = self.of(hospital, "init", *words)
        self.set_rules(hospital, rules())
        seed = int.from_bytes(hashlib.sha256(hospital.encode()).digest()[:2])
        pictures = make_pictures(self.folder / "pictures" / hospital, hospital, patients=PATIENTS, seed=seed)
        self.of(hospital, "ingest", str(pictures))
        keys = ("--identity-key", made["identity_public_key"], "--node-key", made["node_public_key"])
        self.at("admit", "--id", hospital, *keys)

    def enrol(self, hospital: str) -> None:
        """Pin the newest roster there."""
        self.of(hospital, "enrol", "--roster", str(self.home.roster_path), "--root-key", self.home.root.hex)

    def set_rules(self, hospital: str, policy: Policy) -> None:
        """Write a hospital's policy.toml."""
        (self.folder / hospital / "policy.toml").write_text(policy_text(policy))

    def __enter__(self) -> Self:
        self.start_coordinator()
        return self

    def start_coordinator(self) -> None:
        """Start it and wait until it listens."""
        if not self.ports:
            parts = ("fleet", "control", "catalogue")
            self.ports = {part: f"{LOOPBACK}:{port}" for part, port in zip(parts, free_ports(3), strict=True)}
        flags = [part for name, address in self.ports.items() for part in (f"--{name}", address)]
        self._role("coordinator", ["coordinator", "start", "--home", str(self.folder / "coordinator"), *flags])
        self.until(self.home.addresses_path.exists, "the coordinator listens")

    def start(self, *hospitals: str, only: str = "both") -> None:
        """Start nodes, or one part of each, and wait until their agents answer."""
        for hospital in hospitals:
            words = ["hospital", "start", "--home", str(self.folder / hospital)]
            if only != "both":
                words += ["--only", only]
            if only != "agent":
                words += ["--superlink", self.ports["fleet"], "--root-certificate", str(self.home.authority_path)]
            self._role(hospital if only == "both" else f"{hospital}-{only}", words)
        if only != "courier":
            for hospital in hospitals:
                self.until(self.socket(hospital).exists, f"the agent of {hospital} answers")

    def socket(self, hospital: str) -> Path:
        """The agent's socket."""
        return self.folder / hospital / "state" / "agent.sock"

    def signal(self, role: str, number: signal.Signals) -> None:
        """Send a role a signal; one that ends it is waited for."""
        process = self.roles[role].process
        if process is None or process.poll() is not None:
            raise JourneyError(f"{role} does not run")
        process.send_signal(number)
        if number in {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL}:
            Typed(process, self.roles[role].log).end(90)

    def at(self, *words: str) -> dict[str, Any]:
        """Type a command of the coordinator; returns the JSON that it printed."""
        return self.typed_words("coordinator", *words, "--home", str(self.folder / "coordinator"))

    def of(self, hospital: str, *words: str) -> dict[str, Any]:
        """Type a command of a hospital; returns the JSON that it printed."""
        return self.typed_words("hospital", *words, "--home", str(self.folder / hospital))

    def refused_at(self, *words: str) -> str:
        """Type a command of the coordinator that must be refused in one line; returns the line."""
        return self._refused("coordinator", *words, "--home", str(self.folder / "coordinator"))

    def refused_of(self, hospital: str, *words: str) -> str:
        """Type a command of a hospital that must be refused in one line; returns the line."""
        return self._refused("hospital", *words, "--home", str(self.folder / hospital))

    def begin(self, *words: str) -> Typed:
        """Type a command of the coordinator and do not wait for it."""
        self.typed += 1
        log = self.folder / f"typed-{self.typed}.log"
        with log.open("wb") as output:
            line = self.command(
                "coordinator", "coordinator", *words, "--home", str(self.folder / "coordinator"), "--json"
            )
            process = subprocess.Popen(
                line,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Typed(process, log)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Type any command, with ``--json`` where it knows that, and wait for its end."""
        self.typed += 1
        return subprocess.run(
            (*COMMAND, *words, *(() if words[1] == "start" else ("--json",))),
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
            check=False,
        )

    def typed_words(self, *words: str) -> dict[str, Any]:
        """Type any command that must succeed; returns the JSON that it printed."""
        done = self.run(*words)
        require(done.returncode == 0, f"{' '.join(words[:4])}: exit {done.returncode}: {done.stderr[-1500:]}")
        loaded: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return loaded

    def _refused(self, *words: str) -> str:
        done = self.run(*words)
        said = done.stderr.strip()
        require(done.returncode == 1, f"{' '.join(words[:4])}: exit {done.returncode}, not 1: {said[-600:]}")
        errors = [line for line in said.splitlines() if line.startswith("error:")]
        require(len(errors) == 1 and "Traceback" not in said, f"not one line: {said[-1500:]}")
        return errors[0]

    def create(self, name: str, hospitals: tuple[str, ...], **options: object) -> None:
        """Type ``study create`` with the smallest profile; an option of ``True`` is a flag."""
        given: dict[str, object] = {
            "epsilon": 30,
            "delta": DELTA,
            "rounds": 2,
            "local-steps": 2,
            "images": 16,
            "profile": "tiny",
            "epsilon-calibration": 0,
            "candidates": 1,
            "round-deadline": 600,
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        words = [word for one in hospitals for word in ("--cohort", f"{one}={NOMINAL}")]
        for option, value in given.items():
            words += [f"--{option}"] if value is True else [f"--{option}", str(value)]
        self.at("study", "create", "--name", name, *words)

    def study(self, name: str) -> Study:
        """A study's folder."""
        return self.home.study(name)

    def events(self, study: str, kind: str, **fields: object) -> list[dict[str, Any]]:
        """A study's events of a kind that have these fields."""
        found = [event for event in self.study(study).events() if event["kind"] == kind]
        return [event for event in found if all(event.get(name) == value for name, value in fields.items())]

    def rounds(self, study: str) -> list[list[str]]:
        """Hospitals of every closed round."""
        return [event["hospitals"] for event in self.events(study, "aggregated")]

    def state(self, study: str) -> dict[str, Any]:
        """A study's line of ``study list``."""
        found: dict[str, Any] = next(one for one in self.at("study", "list")["studies"] if one["study"] == study)
        return found

    def until(self, holds: Callable[[], object], words: str, seconds: float = MOST_SECONDS) -> None:
        """Wait until something holds.

        Raises:
            JourneyError: it does not in time.
        """
        end = time.monotonic() + seconds
        while not holds():
            require(time.monotonic() < end, f"after {seconds:.0f} s still not: {words}")
            time.sleep(LOOK_SECONDS)

    def charges(self, hospital: str) -> Counter[tuple[str, str]]:
        """What a hospital was charged, by study and purpose; its ledger is verified."""
        home = NodeHome.open(self.folder / hospital)
        with contextlib.closing(open_ledger(home, lambda: datetime.now(UTC))) as ledger:
            ledger.verify()
            charged = [entry.charge for entry in ledger.entries() if entry.charge.kind == "reserved"]
        return Counter((charge.study, charge.purpose) for charge in charged)

    def require_charged_once(self, *hospitals: str) -> None:
        """Whatever was asked again was charged once."""
        for hospital in hospitals:
            twice = {what: count for what, count in self.charges(hospital).items() if count > 1}
            require(not twice, f"{hospital} was charged more than once: {twice}")

    def actions(self) -> list[psutil.Process]:
        """Processes that run an action now: Flower's ServerApps."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if any("flwr-serverapp" in word for word in process.cmdline()):
                    found.append(process)
        return found

    def require_nothing_left(self) -> None:
        """Every process that belongs to this consortium has ended."""
        self.until(lambda: not self.processes(), "no process is left", 30)


@contextlib.contextmanager
def running(world: Live, *hospitals: str) -> Iterator[Live]:
    """The coordinator and these hospitals run; at the end nothing is left."""
    with world:
        world.start(*hospitals)
        yield world
    world.require_nothing_left()
