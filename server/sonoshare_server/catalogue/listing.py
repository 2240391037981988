"""Finding releases in the public list: filters, order and pages are the database's work, whatever the number.

    Wanted(words="breast", label="malignant", epsilon=8.0, order="epsilon", page=2)

``listed`` and ``listed_classes`` say of every release that the public sees what it can be looked for by; ``relist``
makes them anew from the release, in the transaction that changes it. A page reads the summaries of its own releases and
no list of files.

Words are parts of a release's name, study, task, question and classes, whatever their case; all of them must be there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa

from sonoshare_server.catalogue.schema import LISTED, LISTED_CLASSES, RELEASES

Order = Literal["newest", "oldest", "epsilon", "images", "name"]

PAGE: Final = 24
"""Releases of one page."""

_ORDERS: Final[Mapping[Order, tuple[sa.ColumnElement[Any], ...]]] = {
    "newest": (LISTED.c.sequence.desc(), LISTED.c.release),
    "oldest": (LISTED.c.sequence, LISTED.c.release),
    "epsilon": (LISTED.c.epsilon, LISTED.c.release),
    "images": (LISTED.c.images.desc(), LISTED.c.release),
    "name": (LISTED.c.release,),
}


@dataclass(frozen=True)
class Wanted:
    """What somebody looks for; what is empty or None does not matter.

    Attributes:
        words: parts of what a release says of itself.
        task: name of a task.
        label: a class of which there are images.
        size: side of the images in pixels.
        epsilon: the most that was spent at any hospital.
        state: published or revoked.
        order: what comes first: the newest, the oldest, the smallest epsilon, the most images, or by name.
        page: from 1.
    """

    words: str = ""
    task: str = ""
    label: str = ""
    size: int | None = None
    epsilon: float | None = None
    state: Literal["", "published", "revoked"] = ""
    order: Order = "newest"
    page: int = 1


@dataclass(frozen=True)
class Found:
    """One page.

    Attributes:
        count: how many releases were found in all.
        releases: those of this page, as the public sees them.
    """

    count: int
    releases: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Choices:
    """What can be looked for: every task, class and size of the public list."""

    tasks: tuple[str, ...]
    labels: tuple[str, ...]
    sizes: tuple[int, ...]


def found(connection: sa.Connection, wanted: Wanted) -> Found:
    """One page of what is looked for."""
    asked = _asked(wanted)
    count = connection.execute(sa.select(sa.func.count()).select_from(LISTED).where(*asked)).scalar_one()
    place = sa.select(LISTED.c.release).where(*asked).order_by(*_ORDERS[wanted.order])
    names = connection.execute(place.limit(PAGE).offset((wanted.page - 1) * PAGE)).scalars().all()
    return Found(count, tuple(_said(connection, names)))


def newest(connection: sa.Connection, behind: tuple[int, str] | None, limit: int) -> list[dict[str, Any]]:
    """What is said of public releases, newest first, from behind one of them on (`ReleaseStore.listed`)."""
    place = sa.select(LISTED.c.release).order_by(*_ORDERS["newest"]).limit(limit)
    if behind is not None:
        sequence, release = behind
        later = sa.and_(LISTED.c.sequence == sequence, LISTED.c.release > release)
        place = place.where(LISTED.c.sequence <= sequence, sa.or_(LISTED.c.sequence < sequence, later))
    return _said(connection, connection.execute(place).scalars().all())


def choices(connection: sa.Connection) -> Choices:
    """What can be looked for."""

    def every(column: sa.ColumnElement[Any]) -> tuple[Any, ...]:
        asked = sa.select(column).where(column.is_not(None)).distinct().order_by(column)
        return tuple(connection.execute(asked).scalars())

    return Choices(every(LISTED.c.task), every(LISTED_CLASSES.c.label), every(LISTED.c.size))


def relist(connection: sa.Connection, release: str) -> None:
    """Bring the list up to date with a release that was changed, in the same transaction."""
    for table in (LISTED, LISTED_CLASSES):
        connection.execute(sa.delete(table).where(table.c.release == release))
    columns = (RELEASES.c.sequence, RELEASES.c.state, RELEASES.c.summary)
    row = connection.execute(sa.select(*columns).where(RELEASES.c.release == release)).one()
    if row.state == "unpublished":
        return
    summary = json.loads(row.summary)
    connection.execute(
        sa.insert(LISTED).values(
            release=release,
            sequence=row.sequence,
            state=row.state,
            task=summary["task"],
            size=summary.get("image_size"),
            epsilon=summary["privacy"]["epsilon"],
            images=summary["images"],
            words=words_of(release, summary),
        )
    )
    shown = [{"label": label, "release": release} for label in labels_of(summary)]
    if shown:
        connection.execute(sa.insert(LISTED_CLASSES), shown)


def words_of(release: str, summary: Mapping[str, Any]) -> str:
    """What is searched for words."""
    return " ".join((release, summary["study"], summary["task"], summary["question"], *summary["counts"])).casefold()


def labels_of(summary: Mapping[str, Any]) -> list[str]:
    """Classes of which there are images."""
    return [label for label, count in summary["counts"].items() if count]


def _said(connection: sa.Connection, names: Sequence[str]) -> list[dict[str, Any]]:
    """What is said of these releases, in this order."""
    columns = (RELEASES.c.release, RELEASES.c.state, RELEASES.c.reason, RELEASES.c.summary)
    rows = connection.execute(sa.select(*columns).where(RELEASES.c.release.in_(names))).all()
    seen = {row.release: {**json.loads(row.summary), "state": row.state, "reason": row.reason} for row in rows}
    return [seen[name] for name in names]


def _asked(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    asked: list[sa.ColumnElement[bool]] = [
        LISTED.c.words.contains(word, autoescape=True) for word in wanted.words.casefold().split()
    ]
    if wanted.task:
        asked.append(LISTED.c.task == wanted.task)
    if wanted.label:
        of_class = sa.select(LISTED_CLASSES.c.release).where(LISTED_CLASSES.c.label == wanted.label)
        asked.append(LISTED.c.release.in_(of_class))
    if wanted.size is not None:
        asked.append(LISTED.c.size == wanted.size)
    if wanted.epsilon is not None:
        asked.append(LISTED.c.epsilon <= wanted.epsilon)
    if wanted.state:
        asked.append(LISTED.c.state == wanted.state)
    return asked
