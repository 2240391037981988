"""Workers on several machines draw one candidate: what one leaves that is killed, another takes over.

    python -m benchmarks.draw_together [--images 96] [--lease-seconds 5] [--json]     # as root, on Linux

Each worker is a real ``sonoshare coordinator release draw`` in namespaces of its own: another host name, another HOME,
processes that it cannot see, and the coordinator's folder mounted at a path of its own, as from a file server. What
they share is that folder alone. The first is killed (SIGKILL) while it holds a piece; a second and a third end the
drawing. Beside that, one worker draws the same alone. One JSON object is the last line:

- ``same_bytes``: whether every file of both candidates is the same (must be true);
- ``drawn_by_killed``: pieces that it had finished, kept;
- ``seconds_after_kill``: until the candidate was there; one piece of them waits for ``lease_seconds``;
- ``left``: files of the drawing that are still there (must be 0).

One machine and one disk: a real file server was not seen.
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
from pathlib import Path
from typing import Any, Final

from tests.deploy.members import admit

from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium import terms
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.consortium.studies import draft_study
from sonoshare_server.home import CoordinatorHome

STUDY: Final = "study"
RELEASE: Final = "r1"
MOST_SECONDS: Final = 600.0


def make(folder: Path, images: int) -> Path:
    """A coordinator's folder with a study whose rounds are done."""
    audit = audit_policy(8.0, 0.6, 0.97, 0.001)
    home: CoordinatorHome = create_coordinator(folder, Consortium("bench", audit), ("localhost",))
    admit(folder, "north")
    asked = terms.study_terms(
        STUDY, terms.DIAGNOSIS, {"north": 2000}, audit=audit, epsilon=24.0, delta=1e-5, rounds=1, local_steps=1,
        images=images, profile="small", epsilon_calibration=0.0,
    )  # fmt: skip
    drafted = draft_study(asked)
    study = home.create_study(drafted.plan, drafted.adapter, drafted.adapter_digest, drafted.ballot)
    study.commit_round(1, drafted.adapter, drafted.adapter_digest)
    return folder


def worker(shared: Path, own: Path, lease_seconds: float) -> subprocess.Popen[bytes]:
    """A worker on a machine of its own name, which sees the folder at its own path."""
    seen = own / "mounted"
    seen.mkdir(parents=True)
    draw = [sys.executable, "-m", "sonoshare_deploy.cli.main", "coordinator", "release", "draw", "--device", "cpu"]
    draw += ["--home", str(seen), "--study", STUDY, "--name", RELEASE, "--lease-seconds", str(lease_seconds)]
    script = 'hostname "$1" && mount --bind "$2" "$3" && shift 3 && exec "$@"'
    unshared = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [*unshared, "sh", "-c", script, "sh", own.name, str(shared), str(seen), *draw]
    environment = {**os.environ, "HOME": str(own), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=(own / "stderr").open("wb"))


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


def measure(folder: Path, images: int, lease_seconds: float) -> dict[str, Any]:
    """Draw together with a kill, and alone."""
    shared = make(folder / "shared", images)
    alone = shutil.copytree(shared, folder / "alone")
    drawing = shared / "studies" / STUDY / "candidates" / f".{RELEASE}.drawing"
    first = worker(shared, folder / "draw-1", lease_seconds)

    def done() -> list[Path]:
        return sorted(drawing.glob("shard-*.safetensors"))

    until(lambda: done() and any(drawing.glob("shard-*.lease")), first, folder / "draw-1" / "stderr")
    first.send_signal(signal.SIGKILL)  # and with it, as of a machine that lost its power, all that it had started
    first.wait()
    kept, start = len(done()), time.monotonic()
    others = [worker(shared, folder / f"draw-{number}", lease_seconds) for number in (2, 3)]
    ended = [each.wait(MOST_SECONDS) for each in others]
    seconds = time.monotonic() - start
    if any(ended):
        raise SystemExit("; ".join((folder / f"draw-{number}" / "stderr").read_text()[-500:] for number in (2, 3)))
    if worker(alone, folder / "alone-1", lease_seconds).wait(MOST_SECONDS):
        raise SystemExit((folder / "alone-1" / "stderr").read_text()[-500:])
    return {
        "images": images,
        "workers": 3,
        "lease_seconds": lease_seconds,
        "drawn_by_killed": kept,
        "seconds_after_kill": round(seconds, 1),
        "files": len(candidate(shared)),
        "same_bytes": candidate(shared) == candidate(alone),
        "left": len(list(drawing.rglob("*"))),
    }


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
