"""A coordinator at a glance, from its own files alone: nothing is asked of a process or of a hospital."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sonoshare_deploy.certificates import Expiry, expiries
from sonoshare_deploy.coordinator_watch import read_fleet, roster_until
from sonoshare_server.consortium.members import read_members
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.queue import actions
from sonoshare_server.queue.standing import standing
from sonoshare_shared.locks import is_locked
from sonoshare_shared.protocol.release import layout

_OVER: Final = ("aggregated", "trained", "done", "failed")


@dataclass(frozen=True)
class Member:
    """An admitted hospital.

    Attributes:
        id: its id.
        registered: whether the SuperLink lets its courier in.
        online: whether its courier is connected; None where that is not known: the coordinator does not run, or its
            SuperLink does not say.
        last_heard: when its courier was last known to be connected, or it last answered anything; None for never.
    """

    id: str
    registered: bool
    online: bool | None
    last_heard: datetime | None


@dataclass(frozen=True)
class StudyView:
    """A study.

    Attributes:
        study: its name.
        state: where it stands, in one word (``queue.standing``).
        why: what it waits for, who runs it, or why it stopped; in words.
        rounds_done: rounds that are whole.
        rounds: of the plan.
        does: what it does now, in words; empty if nothing.
        answered: hospitals that have answered what is asked now.
        awaited: hospitals that have not.
        until: until when they are awaited; empty if nobody is.
    """

    study: str
    state: str
    why: str
    rounds_done: int
    rounds: int
    does: str = ""
    answered: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    until: str = ""


@dataclass(frozen=True)
class CoordinatorView:
    """A coordinator: who belongs to it, what runs, what was released, and what ends when."""

    running: bool
    roster_version: int | None
    members: tuple[Member, ...]
    studies: tuple[StudyView, ...]
    releases: tuple[str, ...]
    expiries: tuple[Expiry, ...]


def coordinator_view(home: CoordinatorHome, now: datetime) -> CoordinatorView:
    """Look at a coordinator's folder."""
    fleet, nodes, running = read_fleet(home), home.nodes, is_locked(home.start_lock_path)
    online = fleet.online_at(now) if running and fleet is not None else None
    seen = {} if fleet is None else fleet.last_seen
    members = tuple(
        Member(
            id=name,
            registered=name in nodes,
            online=None if online is None else name in online,
            last_heard=max(filter(None, (seen.get(name), _last_answer(home, name))), default=None),
        )
        for name in sorted(read_members(home))
    )
    return CoordinatorView(
        running=running,
        roster_version=home.roster.version if home.roster_path.exists() else None,
        members=members,
        studies=tuple(study_view(home, study, study.events()) for study in home.studies()),
        releases=tuple(home.sealed_releases()),
        expiries=tuple(expiries(home, roster_until(home))),
    )


def study_view(home: CoordinatorHome, study: Study, events: Sequence[Mapping[str, Any]]) -> StudyView:
    """Look at a study.

    Args:
        home: the coordinator's folder.
        study: the study.
        events: of the study, oldest first.
    """
    doing = actions.running(study)
    waiting, stands = _waiting(events) if doing else {}, standing(home, study)
    return StudyView(
        study=study.plan.study,
        state=stands.state,
        why=stands.why,
        rounds_done=study.state.rounds_done,
        rounds=study.plan.rounds,
        does=", ".join(action.words for action in doing),
        answered=tuple(waiting.get("answered", ())),
        awaited=tuple(waiting.get("awaited", ())),
        until=str(waiting.get("until", "")),
    )


def _waiting(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The last word of who is awaited; nothing if what was asked is over."""
    last = next((event for event in reversed(events) if event["kind"] in {"waiting", *_OVER}), None)
    return {} if last is None or last["kind"] in _OVER else last


def _last_answer(home: CoordinatorHome, hospital: str) -> datetime | None:
    """When a hospital's newest view was kept: it comes with every answer."""
    path = home.views_path / f"{hospital}{layout.ENVELOPE_SUFFIX}"
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else None
