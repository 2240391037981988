"""Drawing a release with several processes on this machine: this one, and helpers.

A helper runs ``sonoshare coordinator release draw``. The machine's threads are shared out among all. Helpers end with
this process, and what one of them leaves is taken over when its lease expires, so one that dies costs time and nothing
else.
"""

import os
import sys

import torch
from rich.console import Console

from sonoshare_deploy.cli.action_words import ActionWords
from sonoshare_deploy.cli.progress import counted
from sonoshare_deploy.processes import Supervisor
from sonoshare_server.release.pipeline import Pipeline
from sonoshare_shared.science.device import CPU


def draw_release(
    steps: Pipeline,
    workers: int,
    lease_seconds: float,
    console: Console,
    device: torch.device = CPU,
    *,
    waits: ActionWords | None = None,
) -> None:
    """Draw a candidate, with a bar on the console.

    Args:
        steps: the release's pipeline.
        workers: processes in all, this one included.
        lease_seconds: after which a silent worker is taken for dead.
        console: for progress.
        device: where all of them draw.
        waits: what is said while hospitals vote, before the drawing.

    Raises:
        InputError: as ``Pipeline.draw``.
    """
    threads = max(1, torch.get_num_threads() // workers)
    command = [sys.executable, "-m", "sonoshare_deploy.cli.main", "coordinator", "release", "draw"]
    command += ["--home", str(steps.home.path), "--study", steps.study.plan.study, "--name", steps.release]
    command += ["--lease-seconds", str(lease_seconds), "--device", str(device)]
    with Supervisor(steps.home.logs_path) as supervisor, counted(f"release {steps.release}", console) as work:
        if workers > 1:
            torch.set_num_threads(threads)
        for number in range(1, workers):
            supervisor.start(f"draw-{number}", command, {**os.environ, "OMP_NUM_THREADS": str(threads)})
        if waits is not None:
            waits.show = work.words

        def progress(done: int, total: int) -> None:
            work.told("drawing images", done, total)

        steps.draw(progress, lease_seconds, device)
