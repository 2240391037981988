"""Workers on several machines draw one candidate: what one leaves that is killed, another takes over.

    python -m benchmarks.draw_together [--images 96] [--lease-seconds 5] [--json]     # as root, on Linux

Each worker is a real command in namespaces of its own: another host name, another HOME, and processes that it cannot
see. The first is killed (SIGKILL) while it holds a piece; a second and a third end the drawing. Twice:

- ``folder``: ``release draw``, with the coordinator's folder mounted at a path of the worker's own, as from a file
  server; what they share is that folder alone;
- ``database``: ``release work``, with all folders of the coordinator hidden; what they share is a PostgreSQL, and the
  coordinator waits for them, draws one piece again and makes the candidate.

Beside that, one worker draws the same alone. One JSON object is the last line, and for each of the two:

- ``same_bytes``: whether every file is the same as alone (must be true);
- ``drawn_by_killed``: pieces that it had finished, kept;
- ``seconds_after_kill``: until the candidate was there; one piece of them waits for ``lease_seconds``;
- ``left``: files or rows of the drawing that are still there (must be 0).

One machine and one disk: a real file server, and a database over a network, were not seen.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from tests.deploy.members import admit
from tests.server.postgres import postgres

from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium import terms
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.consortium.studies import draft_study
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.release.drawing_database import JOBS, LEASES, SHARDS, VARIABLE, DrawingDatabase
from sonoshare_shared.errors import FederationError

RELEASE_COMMAND: Final = (sys.executable, "-m", "sonoshare_deploy.cli.main", "coordinator", "release")
STUDY: Final = "study"
RELEASE: Final = "r1"
MOST_SECONDS: Final = 600.0


def make(folder: Path, images: int) -> Path:
    """A coordinator's folder with a study whose rounds are done."""
    audit = audit_policy(8.0, 0.6, 0.97, 0.001)
    home: CoordinatorHome = create_coordinator(folder, Consortium("bench", audit), ("localhost",))
    admit(folder, "north")
    asked = terms.StudyTerms(
        study=STUDY, task=terms.DIAGNOSIS, cohorts={"north": 2000}, audit=audit, epsilon=24.0, delta=1e-5, rounds=1,
        local_steps=1, images=images, profile="small", epsilon_calibration=0.0,
    )  # fmt: skip
    drafted = draft_study(asked)
    study = home.create_study(drafted.plan, drafted.adapter, drafted.adapter_digest, drafted.ballot)
    study.commit_round(1, drafted.adapter, drafted.adapter_digest)
    return folder


def alone_on_a_machine(own: Path, script: str, *words: object, **variables: str) -> subprocess.Popen[bytes]:
    """A command on a machine of its own name; ``script`` prepares it, and takes the words before ``--`` away."""
    own.mkdir(parents=True)
    unshared = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [*unshared, "sh", "-c", f'hostname "$1" && {script} && exec "$@"', "sh", own.name, *map(str, words)]
    environment = {**os.environ, "HOME": str(own), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=(own / "stderr").open("wb"))


def folder_worker(shared: Path, own: Path, lease_seconds: float) -> subprocess.Popen[bytes]:
    """A worker that sees the coordinator's folder at its own path."""
    seen = own / "mounted"
    draw = [*RELEASE_COMMAND, "draw", "--home", seen, "--study", STUDY]
    options = ["--name", RELEASE, "--lease-seconds", lease_seconds, "--device", "cpu"]
    script = 'mkdir "$3" && mount --bind "$2" "$3" && shift 3'
    return alone_on_a_machine(own, script, shared, seen, *draw, *options)


def database_worker(hidden: Path, key: str, own: Path, lease_seconds: float, url: str) -> subprocess.Popen[bytes]:
    """A worker that sees nothing of the coordinator but the database."""
    draw = [*RELEASE_COMMAND, "work", "--coordinator-key", key]
    options = ["--name", RELEASE, "--lease-seconds", lease_seconds, "--device", "cpu"]
    script = 'mount -t tmpfs none "$2" && shift 2'
    return alone_on_a_machine(own, script, hidden, *draw, *options, **{VARIABLE: url})


def until(what: Any, whose: subprocess.Popen[bytes], said: Path) -> None:
    """Wait until something holds while a worker works."""
    end = time.monotonic() + MOST_SECONDS
    while not what():
        if time.monotonic() > end or whose.poll() not in {None, 0}:
            raise SystemExit(f"a worker ended with {whose.poll()}, or took too long: {said.read_text()[-500:]}")
        time.sleep(0.05)


def candidate(home: Path) -> dict[str, bytes]:
    """Every file of the candidate."""
    folder = home / "studies" / STUDY / "candidates" / RELEASE
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ended(workers: list[subprocess.Popen[bytes]], said: list[Path]) -> None:
    """Wait for workers, each of which must end well."""
    statuses = [each.wait(MOST_SECONDS) for each in workers]
    if any(statuses):
        raise SystemExit("; ".join(path.read_text()[-500:] for path in said))


def killed(first: subprocess.Popen[bytes]) -> float:
    """Kill a worker, and with it, as of a machine that lost its power, all that it had started; returns when."""
    first.send_signal(signal.SIGKILL)
    first.wait()
    return time.monotonic()


def by_folder(shared: Path, machines: Path, lease_seconds: float) -> dict[str, Any]:
    """Draw together in a shared folder, with a kill."""
    drawing = shared / "studies" / STUDY / "candidates" / f".{RELEASE}.drawing"
    first = folder_worker(shared, machines / "draw-1", lease_seconds)

    def done() -> list[Path]:
        return sorted(drawing.glob("shard-*.safetensors"))

    until(lambda: done() and any(drawing.glob("shard-*.lease")), first, machines / "draw-1" / "stderr")
    start, kept = killed(first), len(done())
    places = [machines / f"draw-{number}" for number in (2, 3)]
    ended([folder_worker(shared, place, lease_seconds) for place in places], [place / "stderr" for place in places])
    left = len(list(drawing.rglob("*")))
    return {"drawn_by_killed": kept, "seconds_after_kill": round(time.monotonic() - start, 1), "left": left}


def by_database(shared: Path, machines: Path, lease_seconds: float, url: str) -> dict[str, Any]:
    """Draw together by a database, with a kill; the coordinator waits, draws one piece again, and assembles."""
    database, key = DrawingDatabase(url), CoordinatorHome(shared).key.public
    waits = ["draw", "--home", shared, "--study", STUDY, "--name", RELEASE, "--shared", "--workers", 0, "--recheck", 1]
    said = machines / "coordinator" / "stderr"
    coordinator = alone_on_a_machine(
        said.parent, "shift 1", *RELEASE_COMMAND, *waits, "--device", "cpu", **{VARIABLE: url}
    )

    def rows(table: sa.Table) -> int:
        with suppress(FederationError), database.writing() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
        return 0  # the tables are not made yet

    def worker(number: int) -> subprocess.Popen[bytes]:
        return database_worker(shared.parent, key.hex, machines / f"work-{number}", lease_seconds, url)

    until(lambda: rows(JOBS), coordinator, said)
    first = worker(1)
    until(lambda: rows(SHARDS) and rows(LEASES), first, machines / "work-1" / "stderr")
    start, kept = killed(first), rows(SHARDS)
    ended([worker(2), worker(3), coordinator], [said, *(machines / f"work-{n}" / "stderr" for n in (2, 3))])
    left = sum(map(rows, (JOBS, SHARDS, LEASES)))
    database.close()
    return {"drawn_by_killed": kept, "seconds_after_kill": round(time.monotonic() - start, 1), "left": left}


def measure(folder: Path, images: int, lease_seconds: float) -> dict[str, Any]:
    """Draw together with a kill, by folder and by database, and alone."""
    coordinators, machines = folder / "coordinators", folder / "machines"
    homes = {"folder": make(coordinators / "folder", images)}
    homes |= {name: shutil.copytree(homes["folder"], coordinators / name) for name in ("database", "alone")}
    ended([folder_worker(homes["alone"], machines / "alone", lease_seconds)], [machines / "alone" / "stderr"])
    found = {"folder": by_folder(homes["folder"], machines, lease_seconds)}
    with postgres() as url:
        found["database"] = by_database(homes["database"], machines, lease_seconds, url)
    for name, result in found.items():
        result["same_bytes"] = candidate(homes[name]) == candidate(homes["alone"])
    files = len(candidate(homes["alone"]))
    return {"images": images, "workers": 3, "lease_seconds": lease_seconds, "files": files, **found}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--lease-seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(measure(Path(place), asked.images, asked.lease_seconds)))


if __name__ == "__main__":
    main()
