"""A coordinator's commands over its running SuperLink: one federated action to its end, and the release pipeline.

Used by ``sonoshare coordinator`` and by the demonstration alike. What a coordinator decides (who is admitted, what is
published) is the server's ``consortium``; here is what needs the processes that ``coordinator start`` runs.
"""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import httpx

from sonoshare_deploy.addresses import Addresses
from sonoshare_deploy.superlink import FLOWER_APP
from sonoshare_server.consortium.registration import register_nodes
from sonoshare_server.federation.control import Control, RunStatus
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.queue.actions import Action, begun
from sonoshare_shared.errors import FederationError, StoppedError

if TYPE_CHECKING:
    from sonoshare_server.release.pipeline import Pipeline

ACTION_SECONDS: Final = 24 * 3600.0
STOP_SECONDS: Final = 5.0
"""An action that nobody waits for ends within one look for answers; Flower stops one that does not."""
ENDS: Final = ("failed", "stopped")

Watch = Callable[[], None]


def control_of(home: CoordinatorHome) -> Control:
    """Control routes of the running SuperLink.

    Raises:
        InputError: the coordinator does not run.
    """
    return Control(Addresses.read(home).control, home.authority_path)


def tell_superlink(home: CoordinatorHome) -> None:
    """Let a running SuperLink know who is admitted; else it is told when it starts."""
    if Addresses.running(home):
        with contextlib.suppress(FederationError):  # it was killed: the next start tells it
            register_nodes(home, control_of(home))


def act(home: CoordinatorHome, study: Study, action: str, release: str = "", *, watch: Watch | None = None) -> None:
    """Run one federated action to its end; when this ends before it (Ctrl-C, a signal, a kill), so does the action.

    Args:
        home: the coordinator's folder.
        study: the study.
        action: ``propose``, ``train``, ``calibrate``, ``audit`` or ``sign``.
        release: the release it is about, if any.
        watch: called while it runs, for progress.

    Raises:
        StoppedError: the study was stopped from elsewhere, or shall not run.
        FederationError: the action failed; the reason is that of this action alone.
    """
    control = control_of(home)
    run: int | None = None
    try:
        with begun(study, action, release) as asked:
            config = {"action": action, "study": study.plan.study, "release": release, "run": asked.run}
            run = control.start(FLOWER_APP, config)
            status = control.wait(run, _most_seconds(study), watch=watch)
    except BaseException:
        if run is not None:
            _end(control, run)
        raise
    if not status.succeeded:
        raise _failure(study, asked, status)


def _most_seconds(study: Study) -> float:
    """How long an action may take: a day, or as long as its rounds may wait for answers that are carried."""
    return max(ACTION_SECONDS, (study.plan.rounds + 1) * float(study.plan.round_deadline_seconds))


def pipeline(home: CoordinatorHome, study: Study, release: str, *, watch: Watch | None = None) -> "Pipeline":
    """The release pipeline over the running SuperLink."""
    # It draws, and loads torch for it: who trains, proposes or admits waits for hospitals alone.
    from sonoshare_server.release.pipeline import Pipeline  # noqa: PLC0415

    return Pipeline(
        home=home,
        study=study,
        release=release,
        act=lambda action, name: act(home, study, action, name, watch=watch),
    )


def now() -> datetime:
    """The present, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _end(control: Control, run: int) -> None:
    """See to it that a run that nobody waits for ends: by itself, which it does in order, or else by Flower."""
    # The SuperLink may be gone too; then there is nothing to stop.
    with contextlib.suppress(FederationError, httpx.HTTPError):
        try:
            control.wait(run, STOP_SECONDS)
        except FederationError:
            control.stop(run)


def _failure(study: Study, asked: Action, status: RunStatus) -> FederationError:
    """Why an action did not succeed: by its own events, never by an older action's."""
    ends = [event for event in study.events() if event.get("run") == asked.run and event["kind"] in ENDS]
    reason = str(ends[-1]["reason"]) if ends else status.details or "no reason given"
    if ends and ends[-1]["kind"] == "stopped":
        return StoppedError(f"{asked.words} was stopped: {reason}")
    remedy = ends[-1].get("remedy") if ends else None
    return FederationError(f"{asked.words} failed: {reason}", remedy=str(remedy or "see the study's events"))
