"""The web pages: a list of releases, a page for each, and the data-use agreement as a form.

Rendered on the server from the same summaries as the API; every text is escaped; there is no script, and no cookie but
for those who sign in (`account_pages`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

import jinja2
from fastapi import APIRouter, Path, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from sonoshare_server.catalogue.addresses import address_of
from sonoshare_server.catalogue.api import Catalogue
from sonoshare_server.catalogue.documents import Acceptance
from sonoshare_server.catalogue.problems import Refusal
from sonoshare_server.release.reports import epsilon_bars, epsilon_scale, figure_bars
from sonoshare_shared.protocol.documents.base import Identifier
from sonoshare_shared.protocol.release import layout

ReleaseId = Annotated[Identifier, Path()]

_FIELDS: Final = ("name", "email", "purpose")
_ENVIRONMENT: Final = jinja2.Environment(
    loader=jinja2.ChoiceLoader(
        [
            jinja2.PackageLoader("sonoshare_server.catalogue", "templates"),
            jinja2.PackageLoader("sonoshare_server.release", "templates"),
        ]
    ),
    autoescape=jinja2.select_autoescape(("html.j2",)),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def pages_router(catalogue: Catalogue) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def index(request: Request) -> Response:
        releases = [stored.as_seen() for stored in catalogue.storage.releases.releases().values()]
        return page("index", catalogue, request, releases=releases)

    @router.get("/releases/{release}")
    def one_release(release: ReleaseId, request: Request) -> Response:
        stored = catalogue.release(release)
        return page(
            "release",
            catalogue,
            request,
            r=stored.as_seen(),
            privacy_bars=epsilon_bars(stored.summary["hospitals"]),
            epsilon_scale=epsilon_scale(stored.summary["hospitals"]),
            utility_bars=figure_bars(stored.summary["utility"]["figures"]),
            documents=_documents(stored.files),
        )

    @router.get("/releases/{release}/agreement")
    def agreement(release: ReleaseId, request: Request) -> Response:
        return page("agreement", catalogue, request, r=_open(catalogue, release), values={}, problems=[])

    @router.post("/releases/{release}/agreement")
    async def accept(release: ReleaseId, request: Request) -> Response:
        summary = await run_in_threadpool(_open, catalogue, release)
        values = form_of(await request.body())
        try:
            acceptance = Acceptance.model_validate(
                {name: values.get(name, "") for name in _FIELDS}
                | {"release": release, "agreement_version": values.get("agreement_version", "")}
            )
        except ValidationError as error:
            problems = sorted({str(e["loc"][0]) for e in error.errors()})
            return page("agreement", catalogue, request, 422, r=summary, values=values, problems=problems)
        if values.get("accept") != "yes":
            return page("agreement", catalogue, request, 422, r=summary, values=values, problems=["accept"])
        grant = await run_in_threadpool(catalogue.accept, acceptance)
        return page("token", catalogue, request, 201, r=summary, grant=grant)

    return router


def error_page(catalogue: Catalogue, status: int, message: str, headers: dict[str, str]) -> Response:
    """A page that says what went wrong."""
    text = _ENVIRONMENT.get_template("error.html.j2").render(
        title=catalogue.settings.title, status=status, message=message
    )
    return HTMLResponse(text, status, headers)


def _open(catalogue: Catalogue, release: str) -> dict[str, Any]:
    stored = catalogue.release(release)
    if stored.state == "revoked":
        raise Refusal(410, "revoked", "the release was revoked")
    return stored.as_seen()


def page(name: str, catalogue: Catalogue, request: Request, status: int = 200, **values: Any) -> Response:
    """One of the templates, filled in."""
    text = _ENVIRONMENT.get_template(f"{name}.html.j2").render(
        title=catalogue.settings.title,
        agreement=catalogue.settings.agreement,
        server=address_of(request),
        has_log=catalogue.settings.log is not None,
        layout=layout,
        accounts=catalogue.storage.people is not None,
        **values,
    )
    return HTMLResponse(text, status)


def form_of(body: bytes) -> dict[str, str]:
    """The fields of a form that was sent; none where it cannot be read."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20))
    except ValueError:
        return {}


def _documents(files: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Documents that a reader may want to open, with what they are."""
    named = [
        (layout.PRIVACY_HTML, "Privacy report"),
        (layout.UTILITY_HTML, "Utility report"),
        (layout.DATASHEET, "Datasheet"),
        (layout.LICENCE, "Licence"),
        (layout.CROISSANT, "Croissant description"),
        (layout.MANIFEST, "Signed manifest"),
        (layout.LOG_PROOF, "Log proof"),
        (layout.PLAN, "Study plan"),
        (layout.ROSTER, "Roster"),
    ]
    return [(path, words) for path, words in named if path in files]
