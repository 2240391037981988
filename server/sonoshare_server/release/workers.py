"""Workers that draw a candidate together: the same call, made by any number of processes that share the folder.

A worker takes shards by lease, one after another, until none is missing; then whoever gets the lease on it makes the
candidate of them. All return when the candidate is there.

    candidates/.<release>.drawing/drawing.json  shard-000000.safetensors ...  shard-000001.lease ...
    candidates/<release>/                        appears whole, and the folder above is gone

Promises: the candidate's bytes do not depend on how many workers there were or which died when. So a drawing belongs
to one kind of device, the first worker's, as it belongs to the versions of the libraries: a worker on another kind is
refused, and says which kind was begun with. (Processors of one instruction set but of different makers are taken for
one kind; a last bit may differ.) Killed workers leave what they finished; whatever they held is taken over as
`leases` says. What is written never shows half.
"""

import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch

from sonoshare_server.release.build import build_candidate
from sonoshare_server.release.draw import SHARD_IMAGES, Outcome, draw_shard, shards_of, study_model
from sonoshare_server.release.leases import LEASE_SECONDS, FileLeases, Leases
from sonoshare_server.release.shards import DEVICE, Shards
from sonoshare_shared.durable import appear
from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.science.device import CPU, device_kind
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.tasks.phantoms import pathology_shares

Progress = Callable[[int, int], None]
POLL_SECONDS: Final = 0.5
_CANDIDATE: Final = "candidate"  # the piece of work that comes after the shards
_PINNED_PACKAGES: Final = ("sonoshare", "torch", "numpy")


def draw_candidate(
    folder: Path,
    plan: StudyPlan,
    adapter: bytes,
    *,
    bases: Path,
    adapter_digest: str,
    release: str,
    progress: Progress,
    number: int = 1,
    outcome: Outcome | None = None,
    lease_seconds: float = LEASE_SECONDS,
    device: torch.device = CPU,
) -> None:
    """Draw the plan's number of images, alone or with other workers, and write them as a candidate.

    Args:
        folder: of the candidate; absent, or there already.
        plan: the study plan.
        adapter: the trained adapter.
        bases: folder of imported bases.
        adapter_digest: its digest.
        release: identifier of the release.
        progress: called with (images done by all workers, images in all).
        number: place among the candidates of the study, which decides the seed.
        outcome: of the votes on phantoms, where the plan has a calibration.
        lease_seconds: after which a silent worker is taken for dead.
        device: where this worker draws; of the same kind for all workers.

    Raises:
        InputError: the task has a class that no phantom can stand for; the folder holds another drawing, or one begun
            on another kind of device; or nothing can be written there, in which case finished shards are kept.
        ModelError: as `study_model`.
    """
    pathology_shares(plan.task)
    drawing = folder.with_name(f".{folder.name}.drawing")
    if not (folder / layout.CANDIDATE).exists():
        model = study_model(plan, adapter, bases, device)
        try:
            pinned = {"plan": plan.digest(), "adapter": adapter_digest, "release": release}
            pinned |= {"number": str(number)} if number > 1 else {}
            pinned |= {"votes": outcome.digest()} if outcome else {}
            pinned |= {package: version(package) for package in _PINNED_PACKAGES}
            pinned |= {DEVICE: device_kind(device)}
            name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
            _Worker(
                folder=folder,
                assembled=drawing / f"assembled.{name}",
                model=model,
                plan=plan,
                outcome=outcome,
                adapter_digest=adapter_digest,
                release=release,
                number=number,
                shards=Shards(drawing, count=shards_of(plan), size=SHARD_IMAGES, pinned=pinned, writer=name),
                leases=FileLeases(drawing, seconds=lease_seconds),
            ).work(progress)
        # Another worker may have finished and cleared the folder away under this one.
        except ModelError:
            if not (folder / layout.CANDIDATE).exists():
                raise
        except OSError as error:
            if not (folder / layout.CANDIDATE).exists():
                raise InputError(
                    f"the drawing cannot be written: {error.strerror}",
                    remedy="make room, then run the same command again; finished shards are kept",
                ) from error
    shutil.rmtree(drawing, ignore_errors=True)


@dataclass(frozen=True)
class _Worker:
    folder: Path
    assembled: Path
    model: ConditionedUNet
    plan: StudyPlan
    outcome: Outcome | None
    adapter_digest: str
    release: str
    number: int
    shards: Shards
    leases: Leases

    def work(self, progress: Progress) -> None:
        total = self.plan.release.images
        while not (self.folder / layout.CANDIDATE).exists():
            missing = self.shards.missing()
            progress(max(0, total - len(missing) * SHARD_IMAGES), total)
            if not (self._draw_one(missing) if missing else self._assembled()):
                time.sleep(POLL_SECONDS)
        progress(total, total)

    def _draw_one(self, missing: list[int]) -> bool:
        """Draw the first shard that nobody holds; False where others hold all."""
        for shard in missing:
            work = f"shard-{shard:06d}"
            if self.leases.claim(work):
                with self.leases.kept(work):
                    if not self.shards.holds(shard):  # else finished since this worker looked
                        self.shards.write(shard, draw_shard(self.model, self.plan, shard, self.outcome, self.number))
                return True
        return False

    def _assembled(self) -> bool:
        """Make the candidate of the shards; False where another worker is at it."""
        if not self.leases.claim(_CANDIDATE):
            return False
        with self.leases.kept(_CANDIDATE):
            if (self.folder / layout.CANDIDATE).exists():  # made since this worker looked
                return True
            batches = (self.shards.read(shard) for shard in range(shards_of(self.plan)))
            build_candidate(
                self.assembled,
                batches,
                release=self.release,
                plan=self.plan,
                model_digest=self.adapter_digest,
                number=self.number,
            )
            appear(self.assembled, self.folder)
        return True
