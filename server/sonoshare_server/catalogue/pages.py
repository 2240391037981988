"""The web pages: releases to search, a page for each with its citation, and the data-use agreement as a form.

Rendered on the server from the same summaries as the API; every text is escaped; there is no script, and no cookie but
for those who sign in (`account_pages`).
"""

from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

import jinja2
from fastapi import APIRouter, Path, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from sonoshare_server.catalogue import browsing, citation, gallery, plots
from sonoshare_server.catalogue.addresses import address_of
from sonoshare_server.catalogue.api import Catalogue
from sonoshare_server.catalogue.documents import Acceptance
from sonoshare_server.catalogue.listing import Found
from sonoshare_server.catalogue.problems import Refusal
from sonoshare_server.catalogue.store import StoredRelease
from sonoshare_shared.protocol.documents.base import Identifier
from sonoshare_shared.protocol.release import layout

ReleaseId = Annotated[Identifier, Path()]

_FIELDS: Final = ("name", "email", "purpose")
_KEPT: Final = {"Cache-Control": "public, max-age=300"}
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
    _add_reading(router, catalogue)
    _add_citation(router, catalogue)
    _add_agreement(router, catalogue)

    _add_styles(router)
    return router


def _add_styles(router: APIRouter) -> None:
    """What the catalogue has beside the style that all pages share; drawings look as they do in the reports."""
    styles = {name: _ENVIRONMENT.get_template(f"{name}.j2").render() for name in ("catalogue.css", "plots.css")}

    @router.get("/static/catalogue.css")
    def of_catalogue() -> Response:
        return Response(styles["catalogue.css"], media_type="text/css", headers=_KEPT)

    @router.get("/static/plots.css")
    def of_plots() -> Response:
        return Response(styles["plots.css"], media_type="text/css", headers=_KEPT)


def _add_reading(router: APIRouter, catalogue: Catalogue) -> None:
    drawn = plots.Plots(catalogue.storage.blobs)

    @router.get("/")
    def index(request: Request) -> Response:
        asked, releases = browsing.asked(request.query_params), catalogue.storage.releases
        found = Found(0, ()) if asked.problems else releases.search(asked.wanted)
        return page(
            "index",
            catalogue,
            request,
            422 if asked.problems else 200,
            wanted=asked.wanted,
            problems=asked.problems,
            found=found,
            choices=releases.choices(),
            pages=browsing.pages(found),
            browsing=browsing,
            gallery=gallery.gallery,
        )

    @router.get("/releases/{release}")
    def one_release(release: ReleaseId, request: Request) -> Response:
        stored = catalogue.release(release)
        return page(
            "release",
            catalogue,
            request,
            r=stored.as_seen(),
            gallery=gallery.gallery(stored.summary),
            privacy=drawn.privacy(stored),
            utility=plots.utility(stored.summary),
            documents=_documents(stored),
            bibtex=citation.bibtex(*_cited(catalogue, stored, request)),
            cff=citation.cff(*_cited(catalogue, stored, request)),
        )


def _add_citation(router: APIRouter, catalogue: Catalogue) -> None:
    def download(text: str, kind: str, name: str) -> Response:
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(text, media_type=kind, headers=headers)

    @router.get("/releases/{release}/citation.bib")
    def bibtex(release: ReleaseId, request: Request) -> Response:
        text = citation.bibtex(*_cited(catalogue, catalogue.release(release), request))
        return download(text, "application/x-bibtex; charset=utf-8", f"{release}.bib")

    @router.get("/releases/{release}/CITATION.cff")
    def cff(release: ReleaseId, request: Request) -> Response:
        text = citation.cff(*_cited(catalogue, catalogue.release(release), request))
        return download(text, "application/yaml; charset=utf-8", "CITATION.cff")


def _cited(catalogue: Catalogue, stored: StoredRelease, request: Request) -> tuple[dict[str, Any], str, str]:
    settings = catalogue.settings
    return stored.as_seen(), settings.title, settings.address or address_of(request)


def _add_agreement(router: APIRouter, catalogue: Catalogue) -> None:
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


def error_page(catalogue: Catalogue, status: int, message: str, headers: dict[str, str]) -> Response:
    """A page that says what went wrong."""
    text = _ENVIRONMENT.get_template("error.html.j2").render(
        title=catalogue.settings.title,
        status=status,
        message=message,
        contact=catalogue.settings.contact,
        accounts=catalogue.storage.people is not None,
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
        contact=catalogue.settings.contact,
        **values,
    )
    return HTMLResponse(text, status)


def form_of(body: bytes) -> dict[str, str]:
    """The fields of a form that was sent; none where it cannot be read, or holds a NUL, which no database keeps."""
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20))
    except ValueError:
        return {}
    return {} if any("\0" in value for value in fields.values()) else fields


def _documents(stored: StoredRelease) -> list[tuple[str, str, int, str]]:
    """Documents that a reader may want to open: path, what it is, bytes, sha256."""
    named = {
        layout.DATASHEET: "Datasheet",
        layout.PRIVACY_HTML: "Privacy report",
        layout.UTILITY_HTML: "Utility report",
        layout.LICENCE: "Licence",
        layout.CROISSANT: "Croissant description",
        layout.METADATA: "Table of the images (with a token)",
        layout.SHA256SUMS: "Digests, for sha256sum -c",
        layout.MANIFEST: "Signed manifest",
        layout.LOG_PROOF: "Log proof",
        layout.PLAN: "Study plan",
        layout.ROSTER: "Roster",
        layout.PRIVACY_JSON: "Privacy report, for programs",
        layout.UTILITY_JSON: "Utility report, for programs",
    }
    files = stored.files
    return [(path, words, files[path].size, files[path].sha256) for path, words in named.items() if path in files]
