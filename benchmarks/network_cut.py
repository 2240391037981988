"""A hospital's line is cut while a study trains, and healed again: with real processes in two network namespaces.

    python -m benchmarks.network_cut [--rounds 8] [--seconds 40] [--json]

Coordinator and all hospitals but one run in one namespace, the last hospital in another, joined by one virtual cable
(iproute2; needs root on Linux). After the first round the cable is cut, and healed after so many seconds. Nothing in
the namespaces can be reached from outside of them. Prints one JSON object:

- ``rounds``: done of all; ``closed_without``: rounds that closed without the hospital that was cut off;
- ``back``: whether it was in a later round again; ``back_after_seconds``: from the healing to the end of that round;
- ``under_counts``, ``broken``, ``orphans``: as in ``benchmarks.chaos`` (each must be 0).
"""

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from benchmarks._real_consortium import RealConsortium
from benchmarks.chaos import accounts, create_study, run_study
from sonoshare_shared.errors import InputError

HOSPITALS: Final = ("near-1", "near-2", "far")
FAR: Final = HOSPITALS[-1]
STUDY: Final = "cut"
COORDINATOR_ADDRESS: Final = "10.231.77.1"
FAR_ADDRESS: Final = "10.231.77.2"
PATIENCE_SECONDS: Final = 300.0
DEADLINE_SECONDS: Final = 20


def ip(*words: str) -> None:
    """Run iproute2.

    Raises:
        InputError: it is not here, or this is not root's process.
    """
    try:
        subprocess.run(["/usr/bin/env", "ip", *words], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise InputError(
            f"ip {' '.join(words)}: {error.stderr.strip()}", remedy="run as root, on Linux with iproute2"
        ) from error


class Cable:
    """Two namespaces and a cable between them."""

    def __init__(self) -> None:
        self.near, self.far = f"sono-near-{os.getpid()}", f"sono-far-{os.getpid()}"

    def cut(self) -> None:
        """Cut it: what is sent is lost, and no connection is told that it ended."""
        ip("-n", self.far, "link", "set", "cable", "down")

    def heal(self) -> None:
        """Join it again."""
        ip("-n", self.far, "link", "set", "cable", "up")

    def inside(self, namespace: str) -> tuple[str, ...]:
        """Words that run a command in a namespace."""
        return ("ip", "netns", "exec", namespace)


@contextmanager
def cable() -> Iterator[Cable]:
    """Make namespaces and cable, and remove them.

    Raises:
        InputError: as ``ip``.
    """
    made = Cable()
    try:
        for namespace in (made.near, made.far):
            ip("netns", "add", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        ip("link", "add", "cable", "netns", made.near, "type", "veth", "peer", "name", "cable", "netns", made.far)
        for namespace, address in ((made.near, COORDINATOR_ADDRESS), (made.far, FAR_ADDRESS)):
            ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "cable")
            ip("-n", namespace, "link", "set", "cable", "up")
        yield made
    finally:
        for namespace in (made.near, made.far):
            with suppress(InputError):
                ip("netns", "del", namespace)


def rounds_of(consortium: RealConsortium) -> list[set[str]]:
    """Hospitals of every closed round, in order."""
    events = consortium.home.study(STUDY).events()
    return [set(event["hospitals"]) for event in events if event["kind"] == "aggregated"]


def wait_for(consortium: RealConsortium, rounds: int) -> None:
    """Wait until so many rounds are closed."""
    end = time.monotonic() + PATIENCE_SECONDS
    while len(rounds_of(consortium)) < rounds and time.monotonic() < end:
        time.sleep(0.2)


def cut_and_heal(folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Train a study over a cable that is cut after its first round."""
    with cable() as line:
        near = line.inside(line.near)
        inside = {"coordinator": near, **dict.fromkeys(HOSPITALS[:-1], near), FAR: line.inside(line.far)}
        consortium = RealConsortium.made(folder, HOSPITALS, host=COORDINATOR_ADDRESS, inside=inside)
        begun = time.monotonic()
        with consortium:
            create_study(consortium, STUDY, rounds, deadline_seconds=DEADLINE_SECONDS)
            runs: list[int] = []
            training = threading.Thread(target=lambda: runs.append(run_study(consortium, STUDY)), name="training")
            training.start()
            wait_for(consortium, 1)
            line.cut()
            time.sleep(seconds)
            line.heal()
            healed, at = time.monotonic(), len(rounds_of(consortium))
            back = _back(consortium, at, rounds, healed)
            training.join()
        left = consortium.processes()
        present = rounds_of(consortium)
        return {
            "rounds": consortium.home.study(STUDY).state.rounds_done,
            "of": rounds,
            "runs": sum(runs),
            "closed_without": sum(FAR not in hospitals for hospitals in present),
            "back": back is not None,
            "back_after_seconds": back,
            **accounts(consortium, [STUDY]),
            "orphans": len(left),
            "seconds": round(time.monotonic() - begun, 1),
        }


def _back(consortium: RealConsortium, at: int, rounds: int, healed: float) -> float | None:
    """Seconds from the healing to the end of the first round that has the hospital again; None if there is none."""
    end = healed + PATIENCE_SECONDS
    while time.monotonic() < end:
        present = rounds_of(consortium)
        if any(FAR in hospitals for hospitals in present[at:]):
            return round(time.monotonic() - healed, 1)
        if len(present) >= rounds:
            return None
        time.sleep(0.2)
    return None


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--work", type=Path, help="folder to keep; a temporary one if absent")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.work or Path(temporary) / "work"
        folder.mkdir(parents=True, exist_ok=True)
        result = cut_and_heal(folder, asked.rounds, asked.seconds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
