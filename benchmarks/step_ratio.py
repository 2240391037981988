"""Is a private step slower than in another checkout of this project? Both alternate, one process each.

    python -m benchmarks.step_ratio OTHER [--repeats 7] [--settings small_affine small_lora lora_k4 ...]

``OTHER`` is a folder with the other checkout, for example of ``git worktree add``. In each setting, one process runs
this checkout's step and one the other's, turn by turn, one thread each, so that a busy machine disturbs both alike.
Settings are those of `benchmarks.dp_step` (16 patients), on a batch that is given, and ``small_affine``,
``small_lora``, ``small_full``: the agent's own step on the embedded default, 16 patients, K = 2, with draws, sampling,
noise and optimiser. Prints one JSON object as the last line of stdout, by setting:

- ``old``, ``new``: median processor seconds of a step, user and system;
- ``ratio``: of these medians; ``ratio_user``: of the medians of user time alone; ``median_of_ratios``: of the pairs';
- ``old_mib``, ``new_mib``: the process's largest resident memory.
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
UNET = """
from benchmarks.dp_step import SETTINGS, our_step
adapter, draws = SETTINGS[sys.argv[1]]
step = our_step(adapter, 16, draws)
"""
DEFAULT = """
import tempfile
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from sonoshare_client.agent.draws import PatientDraws, loss_of, probe
from sonoshare_client.vault.dataset import PatientArrays
from sonoshare_privacy import Budget, Budgets, Ledger, Optimiser
from sonoshare_privacy.noisy_adam import NoisyAdam
from sonoshare_privacy.patient_gradients import PatientGradients
from sonoshare_privacy.patient_gradients.places import places_of_chunk
from sonoshare_privacy.step_release import Patients, StepRelease
from sonoshare_shared.protocol.documents.plan import Mechanism
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.model.adapter import prepare, trained_parameters
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.phantom import simulate
_, trained = sys.argv[1].split("_")
model, _ = load_base("small")
prepare(model, trained)
parameters = trained_parameters(model, trained)
row_bytes = sum(p.numel() * p.itemsize for p in parameters.values())
made = simulate(16, seed=7, size=64)
patients = [
    PatientArrays("", False, made.images[[i]], made.masks[[i]], np.ones(1, bool), made.boxes[[i]], made.labels[[i]],
                  made.scanners[[i]])
    for i in range(16)
]
drawing, rows = PatientDraws(patients, 2, torch.device("cpu")), probe(model, 2)
engine = PatientGradients(
    model, parameters, draws=2, clip_norm=1.0, clip_mode="clip",
    places=places_of_chunk(draws=2, expected=16, most=min((96 << 20) // row_bytes, 16)),
)
limit = Budget(1e3, 1e-5)
ledger = Ledger(
    Path(tempfile.mkdtemp()) / "ledger.db", key=SigningKey.generate(), hospital="benchmark",
    clock=lambda: datetime.now(UTC), budgets=lambda: Budgets(study=limit, lifetime=limit),
)
mechanism = Mechanism(rate=1.0, noise_multiplier=60.0, clip_norm=1.0, draws=2, delta=1e-5)
release = StepRelease(engine, mechanism, ledger=ledger, study="s", purpose="steps", steps=1000, cohort=16)
adam = NoisyAdam(parameters, Optimiser(learning_rate=1e-6), total_steps=1000)
whose = Patients(16, drawing.draw, loss_of(model), padding=rows[0])
engine.__enter__()
def step():
    adam.step(release.next(whose).mean_gradient(16))
"""
CHILD = """
import resource, sys, warnings
import torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
%s
step()
print("ready", flush=True)
for _ in sys.stdin:
    before = resource.getrusage(resource.RUSAGE_SELF)
    step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, after.ru_maxrss, flush=True)
"""
OF_DEFAULT = ("small_affine", "small_lora", "small_full")


class Runner:
    """A process that takes a step of one checkout whenever it is asked."""

    def __init__(self, checkout: Path, setting: str) -> None:
        paths = [checkout, *(checkout / room for room in ROOMS)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD % (DEFAULT if setting in OF_DEFAULT else UNET), setting],
            cwd=checkout,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.mib = 0.0
        if self._answer() != "ready":
            raise RuntimeError(f"{checkout} cannot take this step")

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise RuntimeError("a pipe is missing")
        return pipe

    def _answer(self) -> str:
        return self._pipe(self._process.stdout).readline().strip()

    def step(self) -> tuple[float, float]:
        """User and system seconds of one step; `mib` is then the largest resident memory so far."""
        stdin = self._pipe(self._process.stdin)
        stdin.write("go\n")
        stdin.flush()
        user, system, kib = self._answer().split()
        self.mib = int(kib) / 1024
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
        "old_mib": runners[0].mib,
        "new_mib": runners[1].mib,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--settings", nargs="+", choices=(*OF_DEFAULT, *SETTINGS), default=(*OF_DEFAULT, *SETTINGS))
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    options = parser.parse_args()
    found = {}
    for setting in options.settings:
        found[setting] = compare(options.other.resolve(), setting, options.repeats)
        print(setting, {name: round(value, 3) for name, value in found[setting].items()}, file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
