"""The console's application: its pages in the order of work, and their routes."""

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sonoshare_deploy.cli.typed import typed
from sonoshare_deploy.coordinator_console.budgets import Budgets
from sonoshare_deploy.coordinator_console.live import Live
from sonoshare_deploy.coordinator_console.member_pages import member_routes
from sonoshare_deploy.coordinator_console.release_pages import release_routes
from sonoshare_deploy.coordinator_console.release_view import ReleaseView, release_views
from sonoshare_deploy.coordinator_console.said import all_events
from sonoshare_deploy.coordinator_console.starting import Commands
from sonoshare_deploy.coordinator_console.study_pages import study_routes
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.local_pages.door import Door
from sonoshare_shared.local_pages.pages import LocalPages, local_app

MOST_EVENTS: Final = 200
NAVIGATION: Final = (
    ("/", "Overview"),
    ("/members", "Members"),
    ("/studies", "Studies"),
    ("/budgets", "Budgets"),
    ("/releases", "Releases"),
    ("/log", "Log"),
)
_FOOT: Final = "For the coordinator's staff. These pages are served on this machine alone."


def coordinator_console(home: CoordinatorHome, commands: Commands, door: Door, live: Live | None = None) -> ASGIApp:
    """The pages of one coordinator.

    Args:
        home: its folder.
        commands: what takes long is started there.
        door: who may enter.
        live: the streams of progress.
    """
    title = f"Coordinator of {Consortium.read(home).name}"
    pages = LocalPages(title, "sonoshare_deploy.coordinator_console", NAVIGATION, _FOOT, typed)
    routes = [
        *study_routes(home, pages, commands, live or Live(), door),
        *member_routes(home, pages),
        *release_routes(home, pages, commands),
        *_record_routes(home, pages),
    ]
    return local_app(pages, routes, door, static=Path(__file__).parent / "static")


def _record_routes(home: CoordinatorHome, pages: LocalPages) -> list[Route]:
    known = Budgets(home)

    def budgets(request: Request) -> Response:
        releases = dict[str, list[ReleaseView]]()
        for view in release_views(home):
            releases.setdefault(view.study, []).append(view)
        return pages.page(request, "budgets", budgets=known.budgets(releases))

    def log(request: Request) -> Response:
        only = request.query_params.get("only") == "trouble"
        rows = all_events(home, MOST_EVENTS, trouble=only)
        return pages.page(request, "log", events=rows, only=only, most=MOST_EVENTS)

    return [Route("/budgets", budgets), Route("/log", log)]
