"""A consortium that runs for long beside kills, a slow hospital, a lying one, and people who download.

    python -m benchmarks.soak [--rounds 200] [--rounds-a-study 20] [--releases 1000] [--downloads 10000] [--json]

Four hospitals and a coordinator, real processes with TLS and node authentication, train study after study. *Steady* is
left alone. Of *killed*, any process is ended with SIGKILL at random, and so is the action of the coordinator that runs
a study; what ended is started again as a service manager would. The agent of *slow* is stopped (SIGSTOP) now and then
for longer than a round waits. *Liar* signs updates that it did not train (``benchmarks._soak_liar``), another kind in
every round. Meanwhile the coordinator's catalogue lists many releases, and people walk the list and download files,
each compared with its digest. Prints one JSON object:

- ``rounds``, ``kills``, ``stops``, ``releases``, ``downloads``: of each, how many there were;
- ``lost``: rounds not finished, updates without a charge, ledgers or logs that do not verify, releases that the list
  left out, downloads that failed or differed (must be 0);
- ``lies``: updates of the liar that were refused, and ``lies_taken``: that were not (must be 0);
- ``rss_growth_mb``, ``open_files_growth``, ``sockets_growth``: of the processes that nobody kills (the coordinator's,
  and steady's), between the end of the first fifth of the studies, at least one, and the end of the last;
- ``grew_mb``: the same memory by kind of process;
- ``orphans``: processes left at the end (must be 0); ``seconds``: wall clock.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks._real_consortium import COMMAND, RealConsortium
from benchmarks._soak_people import People, fill
from benchmarks.chaos import MOST_RUNS, accounts, create_study, kind_of, run_study

STEADY, KILLED, SLOW, LIAR = HOSPITALS = ("steady", "killed", "slow", "liar")
DEADLINE_SECONDS: Final = 20
KILL_PAUSE: Final = (20.0, 90.0)
STOP_PAUSE: Final = (30.0, 90.0)
STOP_SECONDS: Final = (5.0, 1.5 * DEADLINE_SECONDS)
SETTLE_SECONDS: Final = 20.0
MIB: Final = float(1 << 20)


class SoakConsortium(RealConsortium):
    """One whose liar lies."""

    def command(self, role: str, *arguments: str) -> tuple[str, ...]:
        """The liar's role is another program."""
        if role == LIAR:
            return (*COMMAND[:-1], "benchmarks._soak_liar", *arguments)
        return super().command(role, *arguments)


def tree(consortium: RealConsortium, role: str) -> list[psutil.Process]:
    """A role's process and all that it has started."""
    process = consortium.roles[role].process
    if process is None:
        return []
    with suppress(psutil.Error):
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    return []


def is_action(process: psutil.Process) -> bool:
    """Whether it is a ServerApp: it ends with its study, so that its memory is no growth."""
    return kind_of(process) == "serverapp"


@dataclass
class Trouble(threading.Thread):
    """Kills and stops at random moments, until it is told to end.

    Attributes:
        consortium: whose processes.
        seed: of moments and victims.
        kills: how many there were.
        stops: how often the slow hospital's agent was stopped.
    """

    consortium: RealConsortium
    seed: int
    kills: int = 0
    stops: int = 0
    ending: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(name="trouble", daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """Kill on this thread, stop on another."""
        slow = threading.Thread(target=self._stop_and_go, daemon=True)
        slow.start()
        choose = random.Random(self.seed)  # noqa: S311 - which process dies is no secret
        while not self.ending.wait(choose.uniform(*KILL_PAUSE)):
            victims = tree(self.consortium, KILLED) + [p for p in tree(self.consortium, "coordinator") if is_action(p)]
            if victims:
                with suppress(psutil.NoSuchProcess):
                    choose.choice(victims).kill()
                    self.kills += 1
        slow.join()

    def _stop_and_go(self) -> None:
        choose = random.Random(self.seed + 1)  # noqa: S311 - as above
        while not self.ending.wait(choose.uniform(*STOP_PAUSE)):
            process = self.consortium.roles[SLOW].process
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGSTOP)
            self.stops += 1
            self.ending.wait(choose.uniform(*STOP_SECONDS))
            process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Held:
    """What the processes hold that nobody kills.

    Attributes:
        rss_mb: resident memory, MiB.
        files: open files.
        sockets: open sockets among them.
        by_kind: resident memory of each kind of process, MiB.
    """

    rss_mb: float
    files: int
    sockets: int
    by_kind: dict[str, float]


def held(consortium: RealConsortium) -> Held:
    """Read it now."""
    files = sockets = 0
    resident: Counter[str] = Counter()
    for role in ("coordinator", STEADY):
        for process in tree(consortium, role):
            with suppress(psutil.Error):
                if not is_action(process):
                    resident[f"{role}: {kind_of(process)}"] += process.memory_info().rss
                    files += process.num_fds()
                    sockets += len(process.net_connections(kind="all"))
    by_kind = {kind: round(size / MIB, 1) for kind, size in resident.items()}
    return Held(resident.total() / MIB, files, sockets, by_kind)


def lies(consortium: RealConsortium, studies: list[str]) -> tuple[int, int]:
    """Updates of the liar that were refused, and that were taken."""
    refused = taken = 0
    for name in studies:
        for event in consortium.home.study(name).events():
            taken += event["kind"] == "aggregated" and LIAR in event["hospitals"]
            refused += event["kind"] == "refused" and event["hospital"] == LIAR
    return refused, taken


def soak(folder: Path, *, rounds: int, rounds_a_study: int, releases: int, downloads: int, seed: int) -> dict[str, Any]:
    """Run it."""
    consortium = SoakConsortium.made(folder, HOSPITALS)
    listed = fill(consortium.home, releases, folder / "published")
    count = max(1, -(-rounds // rounds_a_study))
    studies: list[str] = []
    readings: list[Held] = []
    begun = time.monotonic()
    with consortium:
        trouble, people = Trouble(consortium, seed), People(consortium.catalogue, listed, downloads)
        trouble.start()
        people.start()
        while len(studies) < count:
            studies.append(f"study-{len(studies) + 1}")
            create_study(consortium, studies[-1], rounds_a_study, deadline_seconds=DEADLINE_SECONDS, quorum=2)
            if run_study(consortium, studies[-1]) == MOST_RUNS:
                break
            readings.append(held(consortium))
            print(f"{studies[-1]}: {readings[-1]}, kills {trouble.kills}, {people.done} downloads", file=sys.stderr)
        people.join()
        print(f"people: {people.said[:5]}", file=sys.stderr)
        readings.append(held(consortium))
        trouble.ending.set()
        trouble.join()
    end = time.monotonic() + SETTLE_SECONDS
    while (left := consortium.processes()) and time.monotonic() < end:
        time.sleep(0.5)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            print(f"orphan: {process.pid} {' '.join(process.cmdline())[:200]}", file=sys.stderr)
            process.kill()
    done = sum(consortium.home.study(name).state.rounds_done for name in studies)
    kept = accounts(consortium, studies)
    unfinished = count * rounds_a_study - done
    refused, taken = lies(consortium, studies)
    first, last = readings[max(0, len(readings) // 5 - 1)], readings[-1]
    return {
        "rounds": done,
        "kills": trouble.kills,
        "stops": trouble.stops,
        "releases": people.seen,
        "downloads": people.done,
        "lost": unfinished + kept["under_counts"] + kept["broken"] + (releases - people.seen) + people.failed,
        "lies": refused,
        "lies_taken": taken,
        "rss_growth_mb": round(last.rss_mb - first.rss_mb, 1),
        "open_files_growth": last.files - first.files,
        "sockets_growth": last.sockets - first.sockets,
        "rss_mb": round(last.rss_mb, 1),
        "grew_mb": {kind: round(size - first.by_kind.get(kind, 0.0), 1) for kind, size in last.by_kind.items()},
        "charges": kept["charges"],
        "orphans": len(left),
        "seconds": round(time.monotonic() - begun, 1),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--rounds-a-study", type=int, default=20)
    parser.add_argument("--releases", type=int, default=1000)
    parser.add_argument("--downloads", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder to keep; a temporary one if absent")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.work or Path(temporary) / "work"
        folder.mkdir(parents=True, exist_ok=True)
        result = soak(
            folder,
            rounds=asked.rounds,
            rounds_a_study=asked.rounds_a_study,
            releases=asked.releases,
            downloads=asked.downloads,
            seed=asked.seed,
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
