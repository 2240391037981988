"""Types the whole set-up of a consortium, from empty folders to hospitals that are online, and times it.

    python -m benchmarks.first_hours [--hospitals 2] [--patients 44] [--work DIR] [--json]

Every command is the one that a person types, in a process of its own, and the two long-running ones are real: a
SuperLink and a courier for each hospital, with TLS and node keys, on ports of loopback. What a person does between
commands (two telephone calls, carrying two files) takes no time here. Pictures are phantoms, so intake is short.

Prints one JSON object as the last line of stdout:

    coordinator_commands, hospital_commands    typed at each
    coordinator_seconds                        init, check and start, until it listens
    hospital_seconds                           of each hospital: from join until the coordinator sees it online
    command_seconds                            of each command, the slowest hospital's
    total_seconds

Exit status 1 where a command fails, or a hospital takes more than six.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks._real_consortium import COMMAND, make_pictures
from sonoshare_deploy.addresses import free_ports

MOST_COMMANDS: Final = 6
READY_SECONDS: Final = 240.0
STOP_SECONDS: Final = 40.0


class Typing:
    """Types commands, and counts and times them by the role that types them."""

    def __init__(self, work: Path, stack: ExitStack) -> None:
        self._work, self._stack = work, stack
        self.counts: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}

    def typed(self, role: str, *words: object) -> dict[str, Any]:
        """One command to its end; its JSON."""
        began = self._counted(role)
        called = [*COMMAND, *map(str, words), "--json"]
        run = subprocess.run(called, cwd=self._work, capture_output=True, text=True, check=False)
        self._timed(words, began)
        if run.returncode:
            sys.exit(f"{' '.join(map(str, words))}\n{run.stdout}{run.stderr}")
        said: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return said

    def started(self, role: str, *words: object) -> None:
        """A command that goes on; it is interrupted when the benchmark ends."""
        self._counted(role)
        with (self._work / f"{role}.log").open("wb") as log:
            process = subprocess.Popen(
                [*COMMAND, *map(str, words)], cwd=self._work, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._stack.callback(_end, process)

    def look(self, home: str) -> dict[str, Any]:
        """What the coordinator's status says; no command of the set-up."""
        called = [*COMMAND, "coordinator", "status", "--home", home, "--json"]
        run = subprocess.run(called, cwd=self._work, capture_output=True, text=True, check=True)
        said: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return said

    def _counted(self, role: str) -> float:
        self.counts[role] += 1
        return time.monotonic()

    def _timed(self, words: tuple[object, ...], began: float) -> None:
        name = " ".join(map(str, words[:2]))
        self.seconds[name] = max(self.seconds.get(name, 0.0), round(time.monotonic() - began, 1))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(typing: Typing, asked: str) -> None:
    """Until the coordinator runs (empty), or sees a hospital online."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        said = typing.look("coordinator")
        online = {member["id"] for member in said["members"] if member["online"]}
        if said["running"] and (not asked or asked in online):
            return
        time.sleep(0.3)
    sys.exit(f"{asked or 'the coordinator'} was not there after {READY_SECONDS:.0f} s")


def set_up_coordinator(typing: Typing) -> str:
    """Init, check, start; gives the address for hospitals."""
    fleet, control, catalogue = (f"127.0.0.1:{port}" for port in free_ports(3))
    ports = ("--fleet", fleet, "--control", control, "--catalogue", catalogue)
    typing.typed("coordinator", "coordinator", "init", "--home", "coordinator", "--consortium", "clinics")
    typing.typed("coordinator", "coordinator", "check", "--home", "coordinator", *ports)
    typing.started("coordinator", "coordinator", "start", "--home", "coordinator", *ports)
    wait_for(typing, "")
    return fleet


def set_up_hospital(typing: Typing, name: str, fleet: str, pictures: Path, patients: int) -> float:
    """Invite, join, admit, enrol, ingest, check, start; gives the seconds from join until it is online."""
    at = ("--home", name)
    root = typing.typed(
        "coordinator", "coordinator", "invite", "--home", "coordinator", "--id", name, "--superlink", fleet
    )["root_fingerprint"]
    began = time.monotonic()
    own = typing.typed(
        name, "hospital", "join", f"{name}-invitation.json", *at, "--root-fingerprint", root, "--patients", patients
    )["fingerprint"]
    request = f"{name}-request.json"
    typing.typed("coordinator", "coordinator", "admit", request, "--home", "coordinator", "--fingerprint", own)
    typing.typed(name, "hospital", "enrol", *at, "--roster", "coordinator/roster.dsse.json")
    typing.typed(name, "hospital", "ingest", pictures, *at)
    typing.typed(name, "hospital", "check", *at)
    typing.started(name, "hospital", "start", *at)
    wait_for(typing, name)
    return round(time.monotonic() - began, 1)


def measure(work: Path, hospitals: int, patients: int) -> dict[str, Any]:
    """Set everything up in an empty folder."""
    with ExitStack() as stack:
        typing = Typing(work, stack)
        names = [f"hospital-{number}" for number in range(1, hospitals + 1)]
        folders = [
            make_pictures(work / "pictures" / name, name, patients=patients, seed=i) for i, name in enumerate(names)
        ]
        began = time.monotonic()
        fleet = set_up_coordinator(typing)
        ready = round(time.monotonic() - began, 1)
        seconds = [
            set_up_hospital(typing, name, fleet, folder, 30) for name, folder in zip(names, folders, strict=True)
        ]
        total = round(time.monotonic() - began, 1)
    return {
        "hospitals": hospitals,
        "coordinator_commands": typing.counts["coordinator"],
        "hospital_commands": max(typing.counts[name] for name in names),
        "coordinator_seconds": ready,
        "hospital_seconds": seconds,
        "command_seconds": typing.seconds,
        "total_seconds": total,
    }


def main() -> int:
    """Measure; 1 where a hospital takes more commands than it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hospitals", type=int, default=2)
    parser.add_argument("--patients", type=int, default=44)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", action="store_true", help="The default; there is no other output.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = asked.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        result = measure(work.resolve(), asked.hospitals, asked.patients)
    print(json.dumps(result))
    return int(result["hospital_commands"] > MOST_COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
