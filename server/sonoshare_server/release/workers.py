"""Workers that draw a candidate together: the same call, made by any number of processes that share a place for shards.

A worker takes shards by lease, one after another, until none is missing; then whoever gets the lease on it makes the
candidate of them. All return when the candidate is there. What they share is a folder of the coordinator's
(``InFolder``), or a database (``drawing_database``), so that a worker needs nothing else of it.

    candidates/.<release>.drawing/drawing.json  shard-000000.safetensors ...  shard-000001.lease ...
    candidates/<release>/                        appears whole, and the folder above is gone

Promises: the candidate's bytes do not depend on how many workers there were or which died when. So a drawing belongs
to one kind of device, the first worker's, as it belongs to the versions of the libraries: a worker on another kind is
refused, and says which kind was begun with. (Processors of one instruction set but of different makers are taken for
one kind; a last bit may differ.) Killed workers leave what they finished; whatever they held is taken over as
`leases` says. What is written never shows half. Of shards that others drew who need not be trusted, as many as are
asked for are drawn here again and compared.
"""

import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

import torch

from sonoshare_server.release.build import build_candidate
from sonoshare_server.release.draw import SHARD_IMAGES
from sonoshare_server.release.drawing import Drawing
from sonoshare_server.release.leases import LEASE_SECONDS, FileLeases, Leases
from sonoshare_server.release.shards import FolderShards, Shards, shard_bytes
from sonoshare_shared.durable import appear
from sonoshare_shared.errors import InputError, IntegrityError, ModelError, StoppedError
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.tasks.phantoms import pathology_shares

Progress = Callable[[int, int], None]
POLL_SECONDS: Final = 0.5
_CANDIDATE: Final = "candidate"  # the piece of work that comes after the shards


class Sharing(Protocol):
    """Where the workers of one drawing find each other's shards and leases."""

    def shards(self, drawing: Drawing, device: torch.device | None, writer: str) -> Shards:
        """The shards, for a worker of that name; without a device for one that draws none itself.

        Raises:
            InputError: they belong to another drawing, or to another kind of device.
        """

    def leases(self, writer: str) -> Leases:
        """The leases, for a worker of that name."""

    def clear(self) -> None:
        """Take all of it away."""


@dataclass(frozen=True)
class InFolder:
    """Workers that share a folder.

    Attributes:
        folder: of shards and leases, made if absent.
        seconds: after which a silent worker is taken for dead.
    """

    folder: Path
    seconds: float = LEASE_SECONDS

    def shards(self, drawing: Drawing, device: torch.device | None, writer: str) -> FolderShards:
        """Files."""
        pinned = drawing.pinned_text(CPU if device is None else device)
        return FolderShards(self.folder, count=drawing.shards, size=SHARD_IMAGES, pinned=pinned, writer=writer)

    def leases(self, _writer: str) -> FileLeases:
        """Files."""
        return FileLeases(self.folder, seconds=self.seconds)

    def clear(self) -> None:
        """The folder goes."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Part:
    """What a worker does of a drawing.

    Attributes:
        bases: folder of imported bases.
        device: where it draws; of the same kind for all workers.
        draws: whether it draws at all, or waits for others.
        recheck: how many shards of others it draws again before a candidate is made of them.
    """

    bases: Path
    device: torch.device = CPU
    draws: bool = True
    recheck: int = 0


def drawing_place(folder: Path) -> Path:
    """Where the drawing of a candidate's folder lies until the candidate is there."""
    return folder.with_name(f".{folder.name}.drawing")


def worker_name() -> str:
    """A name that no other worker has, usable in a file name."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def draw_candidate(folder: Path, drawing: Drawing, sharing: Sharing, part: Part, progress: Progress) -> None:
    """Draw the plan's number of images, alone or with other workers, and write them as a candidate.

    Args:
        folder: of the candidate; absent, or there already.
        drawing: what is drawn.
        sharing: with whom.
        part: what this worker does.
        progress: called with (images done by all workers, images in all).

    Raises:
        InputError: the task has a class that no phantom can stand for; another drawing was begun there, or this one on
            another kind of device; or nothing can be written there, in which case finished shards are kept.
        IntegrityError: what another worker drew is not what comes out here; it is thrown away.
        FederationError: the database that is shared does not answer.
        ModelError: as `Drawing.model`.
    """
    pathology_shares(drawing.plan.task)
    if not (folder / layout.CANDIDATE).exists():
        name = worker_name()
        try:
            _Worker(folder, drawing, sharing, part, name).work(progress)
        # Another worker may have finished and cleared all of it away under this one.
        except (ModelError, StoppedError):
            if not (folder / layout.CANDIDATE).exists():
                raise
        except OSError as error:
            if not (folder / layout.CANDIDATE).exists():
                raise InputError(
                    f"the drawing cannot be written: {error.strerror}",
                    remedy="make room, then run the same command again; finished shards are kept",
                ) from error
    sharing.clear()
    shutil.rmtree(drawing_place(folder), ignore_errors=True)


def draw_shards(drawing: Drawing, sharing: Sharing, part: Part, progress: Progress) -> int:
    """Draw shards until none is missing, and make no candidate; returns how many were drawn here.

    Raises:
        InputError, FederationError, ModelError: as `draw_candidate`.
    """
    pathology_shares(drawing.plan.task)
    hand, drawn = _Hand(drawing, sharing, part, worker_name()), 0
    hand.load()
    with suppress(StoppedError):  # the candidate is made: nobody needs more
        while missing := hand.shards.missing():
            progress(*_done(drawing, missing))
            if hand.draw_one(missing):
                drawn += 1
            else:
                time.sleep(POLL_SECONDS)
    progress(*_done(drawing, []))
    return drawn


def _done(drawing: Drawing, missing: list[int]) -> tuple[int, int]:
    total = drawing.plan.release.images
    return max(0, total - len(missing) * SHARD_IMAGES), total


@dataclass(frozen=True)
class _Hand:
    """Draws shards that nobody holds."""

    drawing: Drawing
    sharing: Sharing
    part: Part
    name: str

    @cached_property
    def shards(self) -> Shards:
        return self.sharing.shards(self.drawing, self.part.device if self.part.draws else None, self.name)

    @cached_property
    def leases(self) -> Leases:
        return self.sharing.leases(self.name)

    @cached_property
    def model(self) -> ConditionedUNet:
        return self.drawing.model(self.part.bases, self.part.device)

    def load(self) -> None:
        """Load the model now.

        Raises:
            ModelError: as `Drawing.model`.
        """
        _ = self.model

    def draw_one(self, missing: list[int]) -> bool:
        """Draw the first shard that nobody holds; False where others hold all, or this worker draws none."""
        for shard in missing if self.part.draws else ():
            work = f"shard-{shard:06d}"
            if self.leases.claim(work):
                with self.leases.kept(work):
                    if not self.shards.holds(shard):  # else finished since this worker looked
                        self.shards.write(shard, self.drawing.draw(self.model, shard))
                return True
        return False


@dataclass(frozen=True)
class _Worker:
    folder: Path
    drawing: Drawing
    sharing: Sharing
    part: Part
    name: str

    @cached_property
    def hand(self) -> _Hand:
        return _Hand(self.drawing, self.sharing, self.part, self.name)

    def work(self, progress: Progress) -> None:
        if self.part.draws:
            self.hand.load()  # a base that is not here is told before anything is begun
        while not (self.folder / layout.CANDIDATE).exists():
            missing = self.hand.shards.missing()
            progress(*_done(self.drawing, missing))
            if not (self.hand.draw_one(missing) if missing else self._assembled()):
                time.sleep(POLL_SECONDS)
        progress(*_done(self.drawing, []))

    def _assembled(self) -> bool:
        """Make the candidate of the shards; False where another worker is at it."""
        leases = self.hand.leases
        if not leases.claim(_CANDIDATE):
            return False
        with leases.kept(_CANDIDATE):
            if (self.folder / layout.CANDIDATE).exists():  # made since this worker looked
                return True
            self._recheck()
            assembled = drawing_place(self.folder) / f"assembled.{self.name}"
            build_candidate(
                assembled,
                (self.hand.shards.read(shard) for shard in range(self.drawing.shards)),
                release=self.drawing.release,
                plan=self.drawing.plan,
                model_digest=self.drawing.adapter_digest,
                number=self.drawing.number,
            )
            appear(assembled, self.folder)
        return True

    def _recheck(self) -> None:
        """Draw some of what others drew again, chosen where they could not know it.

        Raises:
            IntegrityError: something else comes out; all of that worker's is thrown away.
            InputError: this is another kind of device.
        """
        others = self.hand.shards.others()
        chosen = secrets.SystemRandom().sample(sorted(others), min(self.part.recheck, len(others)))
        if chosen:
            self.sharing.shards(self.drawing, self.part.device, self.name)  # refuses another kind of device
        for shard in chosen:
            drawn = shard_bytes(self.drawing.draw(self.hand.model, shard))
            if drawn != shard_bytes(self.hand.shards.read(shard)):
                self.hand.shards.discard(others[shard])
                raise IntegrityError(
                    f"worker {others[shard]} drew shard {shard} otherwise than it is drawn here; all that it drew is "
                    "thrown away",
                    remedy="see what runs there, and run the same command again: what is missing is drawn anew",
                )
