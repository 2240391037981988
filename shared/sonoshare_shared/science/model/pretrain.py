"""Training a base model on simulated phantoms, and on public pictures where there are any: nothing is charged.

A run may be stopped at any moment and goes on in the same work folder, in short pieces if need be. Its settings fix
every step (`recipe`, `base_batches`), so a run for some seconds that ended at step n equals a run of n steps, and an
interrupted run equals an uninterrupted one, as far as the device repeats itself (`base_run`). The averaged weights are
usable at every checkpoint.

The simulator's scanner styles use the upper scanner slots; slots that no phantom used are left equal to "absent", so
that a study's classes and scanners start neutral.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from sonoshare_shared.durable import append_line
from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.model.base_batches import TrainingSet
from sonoshare_shared.science.model.base_checkpoint import newest_checkpoint, save_checkpoint
from sonoshare_shared.science.model.base_pictures import BasePictures, joined
from sonoshare_shared.science.model.base_run import BaseTraining, Progress, Start
from sonoshare_shared.science.model.phantom_cache import cached_phantoms
from sonoshare_shared.science.model.phantom_stream import PhantomStream
from sonoshare_shared.science.model.profiles import Profile
from sonoshare_shared.science.model.public_images import PublicImages, described, public_part
from sonoshare_shared.science.model.recipe import TrainSettings
from sonoshare_shared.science.precision import FLOAT32, computing_in

CHECKPOINT_SECONDS = 60.0
_SIMULATED_AT_ONCE = 512


@dataclass(frozen=True)
class HowLong:
    """When a call ends; what comes first. Without any the run's own length ends it.

    Args:
        seconds: wall time of training in all, earlier calls included.
        steps: steps in all, earlier calls included.
        this_time: wall time of training in this call.
    """

    seconds: float | None = None
    steps: int | None = None
    this_time: float | None = None

    def is_over(self, run: BaseTraining, since: float) -> bool:
        """Whether a run ends now, ``since`` seconds after this call began to train."""
        limits = [steps for steps in (self.steps, run.settings.length) if steps is not None]
        return (
            (self.seconds is not None and run.seconds >= self.seconds)
            or (self.this_time is not None and since >= self.this_time)
            or any(run.step >= most for most in limits)
        )


def checkpoints_of(work: Path, profile: Profile) -> Path:
    """Where a training in a work folder keeps what it goes on from."""
    return work / f"checkpoint-{profile.name}"


def train_base(
    profile: Profile,
    settings: TrainSettings,
    *,
    out: Path,
    work: Path,
    until: HowLong,
    data: Sequence[PublicImages] = (),
    start: Start | None = None,
    device: torch.device = CPU,
    precision: Precision = FLOAT32,
    jobs: int = 1,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    report: Callable[[Progress], None] | None = None,
    simulated: Callable[[int, int], None] | None = None,
) -> Progress:
    """Train, or go on training, a base model.

    Args:
        profile: the architecture.
        settings: the run; must be those of the run being resumed (its length may change: `recipe.continues`).
        out: base weights are written here at every checkpoint (float16, averaged).
        work: folder of the phantom cache, the checkpoints and ``log.jsonl``.
        until: when this call ends.
        data: public pictures to train on beside the phantoms.
        start: weights that a new run begins with.
        device: where it computes.
        precision: in which arithmetic.
        jobs: processes that simulate phantoms, or draw their numbers for a GPU.
        checkpoint_seconds: between checkpoints.
        clock: seconds, monotonic.
        report: called at every checkpoint.
        simulated: called while phantoms are simulated, with (ready, wanted).

    Returns:
        Where the run ended.

    Raises:
        InputError: settings that make no run, or ``out`` is another run's.
        ModelError: the checkpoint in ``work`` belongs to another run.
    """
    settings.checked()
    said = simulated or (lambda _ready, _wanted: None)
    if device == CPU:
        folder, count = work / "phantoms", settings.phantoms
        phantoms = cached_phantoms(folder, count=count, seed=settings.seed, size=profile.size, jobs=jobs, progress=said)
    else:
        stream = PhantomStream(settings.seed, profile.size, device)
        phantoms = first_phantoms(stream, settings.phantoms, workers=jobs, said=said)
    with computing_in(precision):
        run = BaseTraining(
            profile,
            settings,
            TrainingSet(phantoms, public_part(data)),
            sources=described(data),
            device=device,
            precision=precision,
            start=start,
        )
        found = newest_checkpoint(checkpoints_of(work, profile))
        if found is not None:
            run.restore(found)
        if out.exists():
            run.require_own(out)
        return _Course(run, out, work, until, checkpoint_seconds, clock, report).follow()


def first_phantoms(
    stream: PhantomStream, count: int, *, workers: int, said: Callable[[int, int], None]
) -> BasePictures:
    """The first phantoms of a stream, on its device; made anew by every call.

    Args:
        stream: the series.
        count: how many.
        workers: processes that draw their numbers.
        said: called with (ready, wanted).
    """
    parts: list[BasePictures] = []
    with closing(stream.batches(0, min(_SIMULATED_AT_ONCE, count), workers=workers)) as batches:
        while (ready := sum(map(len, parts))) < count:
            parts.append(next(batches))
            said(min(ready + len(parts[-1]), count), count)
    return joined(parts).first(count)


@dataclass
class _Course:
    """A run from here to the end of this call."""

    run: BaseTraining
    out: Path
    work: Path
    until: HowLong
    checkpoint_seconds: float
    clock: Callable[[], float]
    report: Callable[[Progress], None] | None

    def follow(self) -> Progress:
        """Train, with a checkpoint every so often and at the end."""
        run, clock = self.run, self.clock
        before, first_step = run.seconds, run.step
        begin = last = clock()
        losses: list[Tensor] = []
        while not self.until.is_over(run, clock() - begin):
            losses.append(run.advance())
            run.seconds = before + clock() - begin
            if clock() - last >= self.checkpoint_seconds:
                self._keep(losses, first_step, begin)
                losses, last = [], clock()
        if losses:
            return self._keep(losses, first_step, begin)
        progress = self._progress(None, 0.0)  # the run was over before, or has just been kept
        run.write_base(self.out, progress)
        return progress

    def _keep(self, losses: list[Tensor], first_step: int, begin: float) -> Progress:
        run = self.run
        loss = float(torch.stack(losses).mean())  # waits for the device
        speed = (run.step - first_step) * run.settings.batch_size / max(self.clock() - begin, 1e-9)
        progress = self._progress(loss, speed)
        save_checkpoint(checkpoints_of(self.work, run.profile), run.step, run.checkpoint())
        append_line(self.work / "log.jsonl", json.dumps(asdict(progress)).encode())
        run.write_base(self.out, progress)
        if self.report is not None:
            self.report(progress)
        return progress

    def _progress(self, loss: float | None, speed: float) -> Progress:
        run = self.run
        return Progress(run.step, run.seconds, loss, run.validate(), speed, dict(run.devices))
