"""Releases: whom each waits for, what hospitals said, and what ``release create|publish|unpublish|revoke`` do."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sonoshare_deploy.addresses import Addresses
from sonoshare_deploy.coordinator_console.naming import given_name, named
from sonoshare_deploy.coordinator_console.release_view import release_view, release_views
from sonoshare_deploy.coordinator_console.starting import Commands
from sonoshare_deploy.revoking import enter_revocation
from sonoshare_server.consortium.publication import publish_release, revoke_release, unpublish_release
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.local_pages.guard import form_of
from sonoshare_shared.local_pages.pages import LocalPages
from sonoshare_shared.protocol.release.evidence import MOST_REASON
from sonoshare_shared.protocol.signed_files import REVOCATION, signed_text


def release_routes(home: CoordinatorHome, pages: LocalPages, commands: Commands) -> list[Route]:
    """Routes of the releases."""

    def releases(request: Request) -> Response:
        trained = [study.plan.study for study in home.studies() if study.state.rounds_done == study.plan.rounds]
        started = [one for one in commands.started() if one.words.startswith("release ")]
        running = Addresses.running(home)
        return pages.page(
            request, "releases", releases=release_views(home), trained=trained, running=running, started=started
        )

    def release(request: Request) -> Response:
        view = release_view(home, named(request))
        return pages.page(request, "release", view=view, running=Addresses.running(home), most=MOST_REASON)

    def create(request: Request) -> Response:
        form = form_of(request)
        study, name = given_name(form.get("study", ""), "a study"), given_name(form.get("release", ""), "a release")
        Addresses.read(home)  # says what to do where the coordinator does not run
        home.study(study)
        commands.create_release(study, name)
        return pages.done("/releases", f"Release {name} of study {study} is being made.")

    return [
        Route("/releases", releases),
        Route("/releases/create", create, methods=["POST"]),
        Route("/releases/revoked-by-hospital", _enter(home, pages), methods=["POST"]),
        Route("/releases/{name}", release),
        *_changes(home, pages),
    ]


def _enter(home: CoordinatorHome, pages: LocalPages) -> Callable[[Request], Response]:
    def enter(request: Request) -> Response:
        signed = signed_text(form_of(request).get("signed", "").strip().encode(), REVOCATION)
        taken = enter_revocation(home, signed)
        return pages.done(f"/releases/{taken.release}", f"{taken.by} has taken {taken.release} back.")

    return enter


def _changes(home: CoordinatorHome, pages: LocalPages) -> list[Route]:
    def publish(request: Request) -> Response:
        name = named(request)
        publish_release(home, name)
        return pages.done(f"/releases/{name}", f"{name} verifies, and stands in the catalogue.")

    def unpublish(request: Request) -> Response:
        name = named(request)
        unpublish_release(home, name)
        return pages.done(f"/releases/{name}", f"{name} is off the catalogue's list.")

    def revoke(request: Request) -> Response:
        name, form = named(request), form_of(request)
        view, reason = release_view(home, name), form.get("reason", "").strip()
        if form.get("sure") != "yes" and reason:
            return pages.page(request, "release_revoke", view=view, reason=reason)
        revoke_release(home, name, reason)
        return pages.done(f"/releases/{name}", f"{name} is taken back, for good.")

    return [
        Route("/releases/{name}/publish", publish, methods=["POST"]),
        Route("/releases/{name}/unpublish", unpublish, methods=["POST"]),
        Route("/releases/{name}/revoke", revoke, methods=["POST"]),
    ]
