"""Drawing a release with several processes on this machine, this one and helpers, and with others elsewhere.

A helper runs ``sonoshare coordinator release draw``. The machine's threads are shared out among all. Helpers end with
this process, and what one of them leaves is taken over when its lease expires, so one that dies costs time and nothing
else. Who draws elsewhere has a database in common with them, and runs ``sonoshare coordinator release work``.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console

from sonoshare_deploy.cli.action_words import ActionWords
from sonoshare_deploy.cli.progress import counted
from sonoshare_deploy.processes import Supervisor
from sonoshare_server.release.drawing import Drawing
from sonoshare_server.release.drawing_database import VARIABLE, DrawingDatabase, InDatabase, drawing_name
from sonoshare_server.release.drawing_job import job_of
from sonoshare_server.release.pipeline import Pipeline
from sonoshare_server.release.workers import Part, Sharing
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU


@dataclass(frozen=True)
class Crew:
    """Who draws.

    Attributes:
        workers: processes on this machine, this one included; 0 where others draw alone, and this one waits for them.
        lease_seconds: after which a silent worker is taken for dead.
        device: where those on this machine draw.
        shared: whether others draw, too, who see the database alone.
        recheck: how many shards of others are drawn here again.
    """

    workers: int = 1
    lease_seconds: float = 60.0
    device: torch.device = CPU
    shared: bool = False
    recheck: int = 0


def draw_release(steps: Pipeline, crew: Crew, console: Console, *, waits: ActionWords | None = None) -> None:
    """Draw a candidate, with a bar on the console.

    Args:
        steps: the release's pipeline.
        crew: who draws.
        console: for progress.
        waits: what is said while hospitals vote, before the drawing.

    Raises:
        InputError: as ``Pipeline.draw``; or what is shared is to be found nowhere.
    """
    with ExitStack() as stack:
        database = stack.enter_context(drawing_database()) if crew.shared else None
        supervisor = stack.enter_context(Supervisor(steps.home.logs_path))
        work = stack.enter_context(counted(f"release {steps.release}", console))
        _start_helpers(steps, crew, supervisor)
        if waits is not None:
            waits.show = work.words

        def share(drawing: Drawing) -> Sharing:
            if database is None:
                return steps.in_folder(crew.lease_seconds)
            coordinator = steps.home.key.public
            database.make_tables()
            database.offer(coordinator, steps.release, job_of(drawing, steps.study.plan_envelope, steps.home.key))
            console.print(f"elsewhere: {elsewhere(steps.release, coordinator.hex)}", soft_wrap=True)
            name = drawing_name(coordinator, steps.release)
            return InDatabase(database, name, crew.lease_seconds, judges=True)

        part = Part(steps.bases, crew.device, draws=crew.workers > 0, recheck=crew.recheck)
        steps.draw(lambda done, total: work.told("drawing images", done, total), share, part)


def elsewhere(release: str, coordinator: str) -> str:
    """What is typed on a machine that is to draw along; its database's URL is told another way, for its password."""
    return f"sonoshare coordinator release work --name {release} --coordinator-key {coordinator}"


@contextmanager
def drawing_database() -> Iterator[DrawingDatabase]:
    """The database that the environment names.

    Raises:
        InputError: it names none.
    """
    url = os.environ.get(VARIABLE)
    if not url:
        raise InputError(
            f"{VARIABLE} names no database for the drawing",
            remedy=f"export {VARIABLE}=postgresql://USER:PASSWORD@HOST/NAME, then run the same again",
        )
    database = DrawingDatabase(url)
    try:
        yield database
    finally:
        database.close()


def _start_helpers(steps: Pipeline, crew: Crew, supervisor: Supervisor) -> None:
    threads = max(1, torch.get_num_threads() // max(1, crew.workers))
    command = [sys.executable, "-m", "sonoshare_deploy.cli.main", "coordinator", "release", "draw"]
    command += ["--home", str(steps.home.path), "--study", steps.study.plan.study, "--name", steps.release]
    command += ["--lease-seconds", str(crew.lease_seconds), "--device", str(crew.device)]
    command += ["--shared", "--recheck", str(crew.recheck)] if crew.shared else []
    if crew.workers > 1:
        torch.set_num_threads(threads)
    for number in range(1, crew.workers):
        supervisor.start(f"draw-{number}", command, {**os.environ, "OMP_NUM_THREADS": str(threads)})
