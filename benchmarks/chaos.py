"""Random SIGKILLs of every process of a federation, while it trains; and what is left of it.

    python -m benchmarks.chaos [--hospitals 3] [--rounds 6] [--kills 50] [--seed 1] [--json]

A consortium of real processes (SuperLink, ServerApp, SuperNodes, couriers, agents; TLS and node authentication) trains
study after study. At random moments one of its processes, of a kind drawn at random, is killed with SIGKILL. Roles that
end are started again as a service manager would, and ``study run`` is given again when it fails, as its message says.
With ``--kills 0`` this is a plain run of so many federated hospitals on one machine. Prints one JSON object:

- ``kills``: by kind of process; ``studies``, ``rounds``: finished in all (``unfinished`` must be 0);
- ``runs``: how often ``study run`` was given; ``closed_without``: hospitals left out of a round, in all;
- ``under_counts``: updates, or trainings that an agent finished, without a charge in its ledger (must be 0);
- ``charges``: for training; ``trainings``: finished by the agents, as many at most;
- ``broken``: ledgers or logs that did not verify (must be 0); ``orphans``: processes left at the end (must be 0);
- ``seconds``: wall clock of training; ``cpu_seconds_a_round`` is not given: killed processes take theirs along.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks._real_consortium import DELTA, NOMINAL, RealConsortium
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_server.consortium import terms
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.consortium.studies import draft_study
from sonoshare_shared.errors import SonoShareError
from sonoshare_shared.events import EventLog

KINDS: Final = {
    "superlink": ("federation.superlink", "flower-superlink"),
    "serverapp": ("flwr-serverapp",),
    "superexec": ("superexec",),
    "supernode": ("courier.network_side", "courier.supernode"),
    "courier": ("flwr-clientapp", "courier.warm", "courier.worker"),
    "agent": ("hospital start",),
    "coordinator": ("coordinator start",),
}
"""Words of the command lines of each kind, in the order in which they are tried."""
PAUSE_SECONDS: Final = (1.0, 6.0)
"""Between two kills."""
MOST_RUNS: Final = 60
"""Of one study, before it counts as unfinished."""
SETTLE_SECONDS: Final = 20.0


def kind_of(process: psutil.Process) -> str | None:
    """Kind of a process of the consortium, or None for what is killed by nobody (this benchmark's own commands)."""
    with suppress(psutil.Error):
        line = " ".join(process.cmdline())
        return next((kind for kind, words in KINDS.items() if any(word in line for word in words)), None)
    return None


@dataclass
class Killer(threading.Thread):
    """Kills until it has killed enough, or is told to stop.

    Attributes:
        consortium: whose processes.
        most: kills in all.
        seed: of moments and victims.
        killed: by kind.
    """

    consortium: RealConsortium
    most: int
    seed: int
    killed: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(name="killer", daemon=True)

    def __hash__(self) -> int:
        return id(self)

    @property
    def enough(self) -> bool:
        """Whether all kills are done."""
        return self.killed.total() >= self.most

    def run(self) -> None:
        """Kill one process at a time."""
        choose = random.Random(self.seed)  # noqa: S311 - which process dies is no secret
        while not self.enough and not self.stop.wait(choose.uniform(*PAUSE_SECONDS)):
            by_kind: dict[str, list[psutil.Process]] = {}
            for process in self.consortium.processes():
                if (kind := kind_of(process)) is not None:
                    by_kind.setdefault(kind, []).append(process)
            if not by_kind:
                continue
            kind = choose.choice(sorted(by_kind))
            victim = choose.choice(sorted(by_kind[kind], key=lambda process: process.pid))
            with suppress(psutil.NoSuchProcess):
                victim.kill()
                self.killed[kind] += 1


def create_study(
    consortium: RealConsortium, name: str, rounds: int, *, deadline_seconds: int = 60, quorum: int | None = None
) -> None:
    """A small study of all hospitals; its deadline may be shorter than the command's shortest."""
    asked = terms.StudyTerms(
        study=name,
        task=terms.DIAGNOSIS,
        cohorts=dict.fromkeys(consortium.hospitals, NOMINAL),
        audit=Consortium.read(consortium.home).audit,
        epsilon=4.0,
        delta=DELTA,
        rounds=rounds,
        local_steps=2,
        images=16,
        profile="tiny",
        epsilon_calibration=0.0,
        round_deadline_seconds=deadline_seconds,
        quorum=quorum,
    )
    drafted = draft_study(asked)
    consortium.home.create_study(drafted.plan, drafted.adapter, drafted.adapter_digest, drafted.ballot)


def run_study(consortium: RealConsortium, name: str) -> int:
    """Run a study to its end, giving the command again as often as it takes; returns how often, or ``MOST_RUNS``."""
    study = consortium.home.study(name)
    for attempt in range(1, MOST_RUNS):
        ran = consortium.coordinator("study", "run", "--name", name)
        print(f"{name}: run {attempt}: {(ran.stderr or ran.stdout).strip().splitlines()[-1:]}", file=sys.stderr)
        if ran.returncode == 0 and study.state.rounds_done == study.plan.rounds:
            return attempt
        time.sleep(1.0)
    return MOST_RUNS


def accounts(consortium: RealConsortium, studies: list[str]) -> dict[str, int]:
    """Compare what was released and trained with what the ledgers hold."""
    under = broken = charges = trainings = 0
    for hospital in consortium.hospitals:
        home = NodeHome.open(consortium.folder / hospital)
        try:
            ledger = open_ledger(home, lambda: datetime.now(UTC))
            ledger.verify()
            entries = [entry.charge for entry in ledger.entries() if entry.charge.kind == "reserved"]
            ledger.close()
        except SonoShareError:
            broken += 1
            continue
        charged = Counter((entry.study, entry.purpose) for entry in entries)
        charges += charged.total()
        trained = [event for event in EventLog(home.state.events_path).events() if event["kind"] == "trained"]
        trainings += len(trained)
        under += max(0, len(trained) - charged.total())
        for name in studies:
            updates = {event["round"] for event in consortium.home.study(name).events() if is_update(event, hospital)}
            rounds_paid = sum(count > 0 for (study, _), count in charged.items() if study == name)
            under += max(0, len(updates) - rounds_paid)
    return {"under_counts": under, "broken": broken + log_breaks(consortium), "charges": charges} | {
        "trainings": trainings
    }


def is_update(event: dict[str, Any], hospital: str) -> bool:
    """Whether an event says that this hospital's update of a round came."""
    return bool(event["kind"] == "update" and event["hospital"] == hospital)


def log_breaks(consortium: RealConsortium) -> int:
    """1 if the coordinator's log does not open whole."""
    try:
        consortium.home.log().head()
    except SonoShareError:
        return 1
    return 0


def left_out(consortium: RealConsortium, studies: list[str]) -> int:
    """Hospitals that were missing from a closed round, in all."""
    closed = [
        set(event["hospitals"])
        for name in studies
        for event in consortium.home.study(name).events()
        if event["kind"] == "aggregated"
    ]
    return sum(len(consortium.hospitals) - len(present) for present in closed)


def chaos(folder: Path, hospitals: int, rounds: int, kills: int, seed: int) -> dict[str, Any]:
    """Run studies under kills."""
    names = [f"hospital-{number + 1}" for number in range(hospitals)]
    studies: list[str] = []
    runs: list[int] = []
    consortium = RealConsortium.made(folder, names)
    begun = time.monotonic()
    with consortium:
        killer = Killer(consortium, kills, seed)
        killer.start()
        while not studies or not killer.enough:
            studies.append(f"study-{len(studies) + 1}")
            create_study(consortium, studies[-1], rounds)
            runs.append(run_study(consortium, studies[-1]))
            if runs[-1] == MOST_RUNS:
                break
        killer.stop.set()
        killer.join()
    seconds = time.monotonic() - begun
    end = time.monotonic() + SETTLE_SECONDS
    while (left := consortium.processes()) and time.monotonic() < end:
        time.sleep(0.5)
    done = [consortium.home.study(name).state.rounds_done for name in studies]
    result = {
        "hospitals": hospitals,
        "kills": dict(sorted(killer.killed.items())),
        "killed": killer.killed.total(),
        "studies": sum(count == rounds for count in done),
        "unfinished": sum(count < rounds for count in done),
        "rounds": sum(done),
        "runs": sum(runs),
        "closed_without": left_out(consortium, studies),
        **accounts(consortium, studies),
        "orphans": len(left),
        "seconds": round(seconds, 1),
    }
    for process in left:
        with suppress(psutil.NoSuchProcess):
            print(f"orphan: {process.pid} {' '.join(process.cmdline())[:200]}", file=sys.stderr)
            process.kill()
    return result


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--hospitals", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder to keep; a temporary one if absent")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.work or Path(temporary) / "work"
        folder.mkdir(parents=True, exist_ok=True)
        result = chaos(folder, asked.hospitals, asked.rounds, asked.kills, asked.seed)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
