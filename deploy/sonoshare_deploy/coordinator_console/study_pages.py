"""Overview, studies and their progress; what ``study run``, ``pause`` and ``retire`` do; the queue."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sonoshare_deploy.addresses import Addresses
from sonoshare_deploy.cli.durations import ago, moment
from sonoshare_deploy.coordinator_console.live import Live, Progress
from sonoshare_deploy.coordinator_console.naming import study_in
from sonoshare_deploy.coordinator_console.release_view import release_views
from sonoshare_deploy.coordinator_console.said import newest, told
from sonoshare_deploy.coordinator_console.starting import Commands
from sonoshare_deploy.coordinator_view import CoordinatorView, StudyView, coordinator_view, study_view
from sonoshare_deploy.study_wishes import become
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.queue.standing import standing
from sonoshare_server.queue.turns import Ticket, tickets
from sonoshare_server.queue.wanted import FINAL, Wish
from sonoshare_shared.local_pages.door import Door
from sonoshare_shared.local_pages.guard import form_of
from sonoshare_shared.local_pages.pages import LocalPages
from sonoshare_shared.printable import printable

EVENTS: Final = 20
ENDED: Final = ("trained", "done", *FINAL)
"""States of which no round is left to run."""
_ONLINE: Final = {True: "online", False: "not online", None: "not known"}


@dataclass(frozen=True)
class Heard:
    """A hospital, as the table of who is online shows it."""

    id: str
    registered: bool
    online: str
    heard: str


def study_routes(home: CoordinatorHome, pages: LocalPages, commands: Commands, live: Live, door: Door) -> list[Route]:
    """Routes of overview, studies and queue."""
    return [
        *_overview(home, pages, commands, live, door),
        *_studies(home, pages, commands, live, door),
        *_changes(home, pages, commands),
    ]


def _overview(home: CoordinatorHome, pages: LocalPages, commands: Commands, live: Live, door: Door) -> list[Route]:
    def overview(request: Request) -> Response:
        now = datetime.now(UTC)
        view = coordinator_view(home, now)
        waiting = [release for release in release_views(home) if release.waits]
        return pages.page(
            request,
            "overview",
            view=view,
            now=now,
            members=heard(view, now),
            progress=overview_progress(view, now),
            waiting=waiting,
            started=commands.started(),
        )

    async def overview_live(request: Request) -> Response:
        def look() -> Progress:
            now = datetime.now(UTC)
            return overview_progress(coordinator_view(home, now), now)

        return live.stream(request, door, "", look)

    return [Route("/", overview), Route("/live", overview_live)]


def _studies(home: CoordinatorHome, pages: LocalPages, commands: Commands, live: Live, door: Door) -> list[Route]:
    def studies(request: Request) -> Response:
        found = [study_view(home, study, study.events()) for study in home.studies()]
        return pages.page(request, "studies", studies=found, tickets=[_ticket(one) for one in tickets(home)])

    def study(request: Request) -> Response:
        this = study_in(home, request)
        view, stands = study_view(home, this, this.events()), standing(home, this)
        return pages.page(
            request,
            "study",
            plan=this.plan,
            view=view,
            progress=study_progress(home, this),
            answers=stands.answers,
            reasons={hospital: told(reason) for hospital, reason in stands.reasons.items()},
            releases=stands.releases,
            question=printable(this.plan.task.question),
            events=newest(this.events(), EVENTS),
            running=Addresses.running(home),
            runs_now=bool(view.does),
            may_run=view.state not in ENDED and not view.does,
            final=view.state in FINAL,
            started=[one for one in commands.started() if f"study {this.plan.study}:" in one.words],
        )

    async def study_live(request: Request) -> Response:
        this = study_in(home, request)
        return live.stream(request, door, this.plan.study, lambda: study_progress(home, this))

    return [
        Route("/studies", studies),
        Route("/studies/{name}", study),
        Route("/studies/{name}/live", study_live),
    ]


def _changes(home: CoordinatorHome, pages: LocalPages, commands: Commands) -> list[Route]:
    def run(request: Request) -> Response:
        this = study_in(home, request)
        Addresses.read(home)  # says what to do where the coordinator does not run
        commands.run_study(this.plan.study)
        return pages.done(f"/studies/{this.plan.study}", f"Study {this.plan.study} is started: see its progress here.")

    def pause(request: Request) -> Response:
        return changed(request, "paused")

    def retire(request: Request) -> Response:
        if form_of(request).get("sure") != "yes":
            this = study_in(home, request)
            return pages.page(request, "study_retire", study=this.plan.study)
        return changed(request, "retired")

    def changed(request: Request, wish: Wish) -> Response:
        this = study_in(home, request)
        now = become(home, this, wish)
        words = f"Study {now.study}: {now.state}, {now.rounds_done} of {now.rounds} rounds done."
        return pages.done(f"/studies/{now.study}", words)

    return [
        Route("/studies/{name}/run", run, methods=["POST"]),
        Route("/studies/{name}/pause", pause, methods=["POST"]),
        Route("/studies/{name}/retire", retire, methods=["POST"]),
    ]


def heard(view: CoordinatorView, now: datetime) -> list[Heard]:
    """Who is online, and when each was heard of last."""
    return [
        Heard(
            one.id,
            one.registered,
            _ONLINE[one.online],
            "never" if one.last_heard is None else ago(one.last_heard, now),
        )
        for one in view.members
    ]


def overview_progress(view: CoordinatorView, now: datetime) -> Progress:
    """What changes on the overview."""
    text, value = dict[str, str](), dict[str, int]()
    for one in view.studies:
        text |= _words(one)
        value[f"{one.study}-rounds"] = one.rounds_done
    for member in heard(view, now):
        text |= {f"{member.id}-online": member.online, f"{member.id}-heard": member.heard}
    return Progress(text, value)


def study_progress(home: CoordinatorHome, study: Study) -> Progress:
    """What changes on a study's page."""
    events = study.events()
    view = study_view(home, study, events)
    rows = {"events": [row.cells for row in newest(events, EVENTS)]}
    return Progress(_words(view), {f"{view.study}-rounds": view.rounds_done}, rows)


def _words(view: StudyView) -> dict[str, str]:
    until = f", until {printable(moment(view.until))}" if view.until else ""
    awaited = f"{printable(', '.join(view.awaited))}{until}" if view.awaited else "nobody"
    return {
        f"{view.study}-state": view.state,
        f"{view.study}-why": told(view.why),
        f"{view.study}-done": f"{view.rounds_done} of {view.rounds} rounds",
        f"{view.study}-answered": printable(", ".join(view.answered)) or "nobody",
        f"{view.study}-awaited": awaited,
    }


def _ticket(ticket: Ticket) -> tuple[str, str, str, int, str]:
    state = "has its turn" if ticket.holding else "waits"
    return ticket.study, printable(ticket.what), state, ticket.priority, f"{ticket.drawn:%Y-%m-%d %H:%M} UTC"
