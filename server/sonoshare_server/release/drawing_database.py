"""A drawing that is shared through a database: a worker needs its URL and the coordinator's public key, and no folder.

    SONOSHARE_DRAWING=postgresql://drawing@db.example.org/drawing

| table | who writes | what |
|---|---|---|
| ``drawing_jobs`` | the coordinator | the signed job; when it goes, all of its drawing goes |
| ``drawing_parts`` | the coordinator | adapter, ballot, votes |
| ``drawing_begun`` | the first worker | on what the images depend: plan, adapter, versions, kind of device |
| ``drawing_leases`` | workers | who holds which piece of work (`database_leases`) |
| ``drawing_shards`` | workers | finished shards, safetensors |

A drawing's name is the coordinator's public key and the release, so that several consortia can use one database.

Promises: a shard is there whole or not at all, under the name of the worker who put it there, and no worker writes over
another's. The coordinator looks through each, and takes away what is damaged, or is not what the plan asks for in shape
or type. A worker may lie about its name and draw something else: the coordinator draws some again (``workers``). It
learns nothing of patients that the job does not say. ``docs/how-to/draw-elsewhere.md`` has the rights of its user.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import sqlalchemy as sa
import torch
from numpy.typing import NDArray

from sonoshare_server.databases import engine_of, writing
from sonoshare_server.release.build import Samples
from sonoshare_server.release.database_leases import DatabaseLeases
from sonoshare_server.release.draw import SHARD_IMAGES
from sonoshare_server.release.drawing import Drawing
from sonoshare_server.release.drawing_job import Job
from sonoshare_server.release.leases import LEASE_SECONDS
from sonoshare_server.release.shards import another_drawing, samples_of, shard_bytes
from sonoshare_shared.errors import FederationError, InputError, ModelError, StoppedError
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.science.model.profiles import profile_named

VARIABLE: Final = "SONOSHARE_DRAWING"
METADATA: Final = sa.MetaData()


def _of_a_drawing() -> sa.Column[str]:
    return sa.Column("drawing", sa.Text, sa.ForeignKey("drawing_jobs.drawing", ondelete="CASCADE"), primary_key=True)


JOBS: Final = sa.Table(
    "drawing_jobs",
    METADATA,
    sa.Column("drawing", sa.Text, primary_key=True),
    sa.Column("signed", sa.LargeBinary, nullable=False),
)
PARTS: Final = sa.Table(
    "drawing_parts",
    METADATA,
    _of_a_drawing(),
    sa.Column("part", sa.Text, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
BEGUN: Final = sa.Table("drawing_begun", METADATA, _of_a_drawing(), sa.Column("pinned", sa.Text, nullable=False))
LEASES: Final = sa.Table(
    "drawing_leases",
    METADATA,
    _of_a_drawing(),
    sa.Column("work", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("beat", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
)
SHARDS: Final = sa.Table(
    "drawing_shards",
    METADATA,
    _of_a_drawing(),
    sa.Column("shard", sa.Integer, primary_key=True),
    sa.Column("writer", sa.Text, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)


class DrawingDatabase:
    """Connections to the database of drawings.

    Args:
        url: of PostgreSQL or of a SQLite file.

    Raises:
        InputError: it names no database that is known here.
    """

    def __init__(self, url: str) -> None:
        self._engine = engine_of(url, VARIABLE)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction; committed when the block ends.

        Raises:
            FederationError: the database does not answer, or lets this user do nothing here.
        """
        try:
            with writing(self._engine) as connection:
                yield connection
        except (sa.exc.OperationalError, sa.exc.ProgrammingError) as error:
            where = self._engine.url.render_as_string(hide_password=True)
            raise FederationError(
                f"the drawing's database does not answer, or refuses ({where}): {_first_line(error)}",
                remedy=f"see that it runs and that {VARIABLE} has its right name and password, then run the same "
                "command again: finished shards are kept",
            ) from error

    def make_tables(self) -> None:
        """Make what is not there.

        Raises:
            FederationError: as `writing`.
        """
        with self.writing() as connection:
            METADATA.create_all(connection)

    def offer(self, coordinator: PublicKey, release: str, job: Job) -> None:
        """Put a job there; one of the same name that asks for something else goes, with all that was drawn for it."""
        name = drawing_name(coordinator, release)
        with self.writing() as connection:
            known = connection.execute(sa.select(JOBS.c.signed).where(JOBS.c.drawing == name)).scalar_one_or_none()
            if known == job.signed:
                return
            connection.execute(sa.delete(JOBS).where(JOBS.c.drawing == name))
            connection.execute(sa.insert(JOBS).values(drawing=name, signed=job.signed))
            for part, data in job.parts.items():
                connection.execute(sa.insert(PARTS).values(drawing=name, part=part, data=data))

    def job(self, coordinator: PublicKey, release: str) -> Job:
        """The job of a release, as it lies there.

        Raises:
            InputError: there is none.
        """
        name = drawing_name(coordinator, release)
        with self.writing() as connection:
            signed = connection.execute(sa.select(JOBS.c.signed).where(JOBS.c.drawing == name)).scalar_one_or_none()
            parts = connection.execute(sa.select(PARTS.c.part, PARTS.c.data).where(PARTS.c.drawing == name)).all()
        if signed is None:
            raise InputError(
                f"nothing is to be drawn for {release}: the coordinator has not begun, or it is done",
                remedy="check the key and the name; the coordinator begins with: release create --shared",
            )
        return Job(bytes(signed), {str(part): bytes(data) for part, data in parts})

    def close(self) -> None:
        """Close all connections that nobody uses."""
        self._engine.dispose()


def drawing_name(coordinator: PublicKey, release: str) -> str:
    """What a drawing is called in the database."""
    return f"{coordinator.hex}/{release}"


@dataclass(frozen=True)
class InDatabase:
    """Workers that share a database.

    Attributes:
        database: the tables are there.
        name: of the drawing.
        seconds: after which this worker, silent, is taken for dead.
        judges: whether this is the coordinator, who looks through what others drew.
    """

    database: DrawingDatabase
    name: str
    seconds: float = LEASE_SECONDS
    judges: bool = False

    def shards(self, drawing: Drawing, device: torch.device | None, writer: str) -> "DatabaseShards":
        """Rows."""
        if device is not None:
            self._pin(drawing.pinned_text(device))
        return DatabaseShards(self.database, self.name, drawing, writer, judges=self.judges)

    def leases(self, writer: str) -> DatabaseLeases:
        """Rows."""
        return DatabaseLeases(self.database.writing, LEASES, self.name, owner=writer, seconds=self.seconds)

    def clear(self) -> None:
        """The job goes, and with it all of the drawing."""
        with self.database.writing() as connection:
            connection.execute(sa.delete(JOBS).where(JOBS.c.drawing == self.name))

    def _pin(self, pinned: str) -> None:
        """Say on what the images depend, or find that it was said."""
        with self.database.writing() as connection:
            if not _inserted(connection, BEGUN, drawing=self.name, pinned=pinned):
                found = sa.select(BEGUN.c.pinned).where(BEGUN.c.drawing == self.name)
                begun = str(connection.execute(found).scalar_one_or_none() or "")
                if not begun:
                    raise _over()
                if begun != pinned:
                    raise another_drawing(
                        begun, pinned, "at the coordinator give another --name, or --workers 0 --recheck 0"
                    )


class DatabaseShards:
    """The shards of one drawing in the database, as one worker sees them.

    Args:
        database: where.
        name: of the drawing.
        drawing: what is drawn.
        writer: this worker's name.
        judges: whether it looks through what others drew, and takes away what is none.
    """

    def __init__(
        self, database: DrawingDatabase, name: str, drawing: Drawing, writer: str, *, judges: bool = False
    ) -> None:
        self._database, self._name, self._drawing, self._writer = database, name, drawing, writer
        self._judges = judges
        self._sound: set[int] = set()

    def missing(self) -> list[int]:
        """Shards that still have to be drawn; who judges looks through each once."""
        written = set(self._written())
        self._sound &= written
        for shard in sorted(written - self._sound):
            try:
                self._look_through(shard)
            except ModelError:
                self._remove(shard)
        return [shard for shard in range(self._drawing.shards) if shard not in self._sound]

    def holds(self, shard: int) -> bool:
        """Whether a shard is in its place, by whomever."""
        return shard in self._written()

    def write(self, shard: int, samples: Samples) -> None:
        """Put a shard in place; one that is there already stays."""
        data = shard_bytes(samples)
        with self._database.writing() as connection:
            _inserted(connection, SHARDS, drawing=self._name, shard=shard, writer=self._writer, data=data)

    def read(self, shard: int) -> Samples:
        """A finished shard."""
        found = sa.select(SHARDS.c.data).where(SHARDS.c.drawing == self._name, SHARDS.c.shard == shard)
        with self._database.writing() as connection:
            data = connection.execute(found).scalar_one_or_none()
        if data is None:
            raise ModelError(f"shard {shard} is missing", remedy="run the same command again: it is drawn anew")
        samples = samples_of(bytes(data), shard, SHARD_IMAGES)
        _require_shape(samples, self._drawing, shard)
        return samples

    def others(self) -> dict[int, str]:
        """Shards of other workers, with their names."""
        return {shard: writer for shard, writer in self._written().items() if writer != self._writer}

    def discard(self, writer: str) -> None:
        """Take away all that a worker put there."""
        gone = [shard for shard, who in self._written().items() if who == writer]
        for shard in gone:
            self._remove(shard)

    def _look_through(self, shard: int) -> None:
        """Take a shard for sound; who judges, after a look.

        Raises:
            ModelError: it is not.
        """
        if self._judges:
            self.read(shard)
        self._sound.add(shard)

    def _written(self) -> dict[int, str]:
        there = sa.select(JOBS.c.drawing).where(JOBS.c.drawing == self._name)
        found = sa.select(SHARDS.c.shard, SHARDS.c.writer).where(SHARDS.c.drawing == self._name)
        with self._database.writing() as connection:
            if connection.execute(there).scalar_one_or_none() is None:
                raise _over()
            return {int(shard): str(writer) for shard, writer in connection.execute(found)}

    def _remove(self, shard: int) -> None:
        self._sound.discard(shard)
        with self._database.writing() as connection:
            connection.execute(sa.delete(SHARDS).where(SHARDS.c.drawing == self._name, SHARDS.c.shard == shard))


def _inserted(connection: sa.Connection, table: sa.Table, **values: object) -> bool:
    """Put a row there; False where there is one of its name.

    Raises:
        StoppedError: the drawing is over.
    """
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(table).values(**values))
    except sa.exc.IntegrityError:
        name = values["drawing"]
        if connection.execute(sa.select(JOBS.c.drawing).where(JOBS.c.drawing == name)).scalar_one_or_none() is None:
            raise _over() from None
        return False
    return True


def _over() -> StoppedError:
    return StoppedError(
        "this drawing is over: the coordinator has its candidate, or began anew",
        remedy="nothing is to be done; for a new one run the same command again",
    )


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "orig", error)).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _require_shape(samples: Samples, drawing: Drawing, shard: int) -> None:
    """A shard of this drawing has so many pictures of this size and nothing else.

    Raises:
        ModelError: it does not.
    """
    first, plan = shard * SHARD_IMAGES, drawing.plan
    count, size = min(SHARD_IMAGES, plan.release.images - first), profile_named(plan.profile).size
    wanted: list[tuple[NDArray[np.generic], tuple[int, ...], str]] = [
        (samples.images, (count, size, size), "uint8"),
        (samples.masks, (count, size, size), "bool"),
        (samples.labels, (count,), "int64"),
        (samples.scanners, (count,), "int64"),
        (samples.boxes, (count, 4), "float32"),
        (samples.cases, (count,), "int64"),
        (samples.mm_per_pixel, (count, 2), "float64"),
    ]
    inside = (
        (samples.labels >= 0).all()
        and (samples.labels < len(plan.task.classes)).all()
        and (samples.scanners >= -1).all()
        and (samples.scanners < max(1, len(plan.task.scanners))).all()
    )
    if not inside or any(array.shape != shape or array.dtype != kind for array, shape, kind in wanted):
        raise ModelError(f"shard {shard} is not of this drawing", remedy="run the same command again")
