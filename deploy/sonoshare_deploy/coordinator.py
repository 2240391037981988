"""A coordinator's commands over its running SuperLink: one federated action to its end, and the release pipeline.

Used by ``sonoshare coordinator`` and by the demonstration alike. What a coordinator decides (who is admitted, what is
published) is the server's ``consortium``; here is what needs the processes that ``coordinator start`` runs.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from sonoshare_deploy.addresses import Addresses
from sonoshare_deploy.superlink import FLOWER_APP
from sonoshare_server.federation.control import Control
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.release.pipeline import Pipeline
from sonoshare_shared.errors import FederationError

ACTION_SECONDS: Final = 24 * 3600.0

Watch = Callable[[], None]


def control_of(home: CoordinatorHome) -> Control:
    """Control routes of the running SuperLink.

    Raises:
        InputError: the coordinator does not run.
    """
    return Control(Addresses.read(home).control, home.authority_path)


def act(home: CoordinatorHome, study: Study, action: str, release: str = "", *, watch: Watch | None = None) -> None:
    """Run one federated action to its end.

    Args:
        home: the coordinator's folder.
        study: the study.
        action: ``train``, ``audit`` or ``sign``.
        release: the release it is about, if any.
        watch: called while it runs, for progress.

    Raises:
        FederationError: the action failed; the reason is the study's last event.
    """
    control = control_of(home)
    run = control.start(FLOWER_APP, {"action": action, "study": study.plan.study, "release": release})
    status = control.wait(run, ACTION_SECONDS, watch=watch)
    if not status.succeeded:
        raise FederationError(
            f"{action} failed: {_failure(study) or status.details or 'no reason given'}",
            remedy="see the study's events, then resume it",
        )


def pipeline(home: CoordinatorHome, study: Study, release: str, *, watch: Watch | None = None) -> Pipeline:
    """The release pipeline over the running SuperLink."""
    return Pipeline(
        home=home,
        study=study,
        release=release,
        act=lambda action, name: act(home, study, action, name, watch=watch),
    )


def now() -> datetime:
    """The present, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _failure(study: Study) -> str:
    failures = [event for event in study.events() if event["kind"] == "failed"]
    return str(failures[-1]["reason"]) if failures else ""
