"""Is a private step slower than in another checkout of this project? Both alternate, one process each.

    python -m benchmarks.step_ratio OTHER [--repeats 7] [--settings lora_k4 lora_k1 full_k4 full_k1]

``OTHER`` is a folder with the other checkout, for example of ``git worktree add``. In each setting of
`benchmarks.dp_step` (16 patients), one process runs this checkout's step and one the other's, turn by turn, one thread
each, so that a busy machine disturbs both alike. Prints one JSON object as the last line of stdout, by setting:

- ``old``, ``new``: median processor seconds of a step, user and system;
- ``ratio``: of these medians; ``ratio_user``: of the medians of user time alone; ``median_of_ratios``: of the pairs'.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import IO

from benchmarks.dp_step import SETTINGS

ROOMS = ("privacy", "shared", "client", "server", "deploy")
CHILD = """
import resource, sys, warnings
import torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
from benchmarks.dp_step import SETTINGS, our_step
adapter, draws = SETTINGS[sys.argv[1]]
step = our_step(adapter, 16, draws)
step()
print("ready", flush=True)
for _ in sys.stdin:
    before = resource.getrusage(resource.RUSAGE_SELF)
    step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, flush=True)
"""


class Runner:
    """A process that takes a step of one checkout whenever it is asked."""

    def __init__(self, checkout: Path, setting: str) -> None:
        paths = [checkout, *(checkout / room for room in ROOMS)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, setting],
            cwd=checkout,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if self._answer() != "ready":
            raise RuntimeError(f"{checkout} cannot run benchmarks.dp_step")

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise RuntimeError("a pipe is missing")
        return pipe

    def _answer(self) -> str:
        return self._pipe(self._process.stdout).readline().strip()

    def step(self) -> tuple[float, float]:
        """User and system seconds of one step."""
        stdin = self._pipe(self._process.stdin)
        stdin.write("go\n")
        stdin.flush()
        user, system = self._answer().split()
        return float(user), float(system)

    def close(self) -> None:
        """End the process."""
        self._pipe(self._process.stdin).close()
        self._process.wait()


def compare(other: Path, setting: str, repeats: int) -> dict[str, float]:
    """Alternate the two checkouts' steps."""
    runners = [Runner(other, setting), Runner(Path(__file__).resolve().parents[1], setting)]
    seen: list[list[tuple[float, float]]] = [[], []]
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 else (1, 0):
            seen[side].append(runners[side].step())
    for runner in runners:
        runner.close()
    old, new = ([sum(times) for times in side] for side in seen)
    user_old, user_new = (median(user for user, _ in side) for side in seen)
    return {
        "old": median(old),
        "new": median(new),
        "ratio": median(new) / median(old),
        "ratio_user": user_new / user_old,
        "median_of_ratios": median(b / a for a, b in zip(old, new, strict=True)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--settings", nargs="+", choices=tuple(SETTINGS), default=tuple(SETTINGS))
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    options = parser.parse_args()
    found = {}
    for setting in options.settings:
        found[setting] = compare(options.other.resolve(), setting, options.repeats)
        print(setting, {name: round(value, 3) for name, value in found[setting].items()}, file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
