"""The JSON API, version 1.

Everything about a release is public but the data themselves (images, masks, metadata.csv), which want the token of
somebody who accepted the data-use agreement. Nothing here publishes: that is the coordinator's, on the machine.
An unpublished release is a 404 everywhere; the data of a revoked one are a 410.

Routes are plain functions, which run in threads: database and files may keep one waiting, and nobody else with it.
"""

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from sonoshare_server.catalogue import documents
from sonoshare_server.catalogue.cursors import Cursor, closed, not_of_this_list, opened, page
from sonoshare_server.catalogue.files import file_response
from sonoshare_server.catalogue.kept import Kept
from sonoshare_server.catalogue.problems import Refusal, not_found
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import Storage
from sonoshare_server.catalogue.store import StoredRelease
from sonoshare_server.catalogue.tokens import Grant
from sonoshare_shared.protocol.documents.base import IDENTIFIER, Identifier
from sonoshare_shared.protocol.release import layout

ReleaseId = Annotated[Identifier, Path(description="identifier of a release")]

_BEARER: Final = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/=-]+) *\Z")
_MINUTE: Final = timedelta(minutes=1)
_MOST_RELEASES: Final = 100
_MOST_KEPT_BYTES: Final = 16 << 20
_MOST_SEQUENCE: Final = 2**31
_MOST_FILES: Final = 10_000
"""Of one page."""


@dataclass
class Catalogue:
    """What the routes share."""

    settings: CatalogueSettings
    storage: Storage

    def release(self, release: str) -> StoredRelease:
        """A listed release, or a 404."""
        found = self.storage.releases.public(release)
        if found is None:
            raise not_found("release")
        return found

    def seen(self, summary: dict[str, Any]) -> dict[str, Any]:
        """What is said of a release, and whom to ask about it."""
        contact = self.settings.contact
        return summary if contact is None else summary | {"contact": contact}

    def require_open(self, release: str, agreement: str) -> None:
        """Refuse unless tokens are granted for a release, under this version of the agreement."""
        if self.release(release).state == "revoked":
            raise Refusal(410, "revoked", "the release was revoked")
        if agreement != self.settings.agreement.version:
            raise Refusal(409, "agreement-version", "the agreement has changed: read it again")

    def accept(self, acceptance: documents.Acceptance) -> Grant:
        """Record an acceptance and grant a token, unless too many were granted in the last minute."""
        now = self.settings.clock()
        self.require_open(acceptance.release, acceptance.agreement_version)
        if self.storage.tokens.granted_since(now - _MINUTE) >= self.settings.grants_per_minute:
            raise Refusal(
                429, "too-many", "too many tokens were asked for; try again in a minute", {"Retry-After": "60"}
            )
        return self.storage.tokens.grant(
            acceptance.release,
            name=acceptance.name,
            email=acceptance.email,
            purpose=acceptance.purpose,
            agreement=acceptance.agreement_version,
            now=now,
            lifetime=self.settings.token_lifetime,
        )

    def require_token(self, request: Request, release: str) -> str:
        """The request's token; refuse unless it is a valid one for this release."""
        token, now, tokens = bearer(request), self.settings.clock(), self.storage.tokens
        if token is not None and tokens.expired(token, release, now=now):
            raise Refusal(
                401,
                "token-expired",
                "the token has expired: accept the release's data-use agreement again",
                {"WWW-Authenticate": 'Bearer realm="sonoshare", error="invalid_token"'},
            )
        if token is None or not tokens.allows(token, release, now=now):
            raise Refusal(
                401,
                "token",
                "a valid token for this release is needed: accept its data-use agreement",
                {"WWW-Authenticate": 'Bearer realm="sonoshare"'},
            )
        return token

    def file(self, request: Request, release: str, path: str) -> Response:
        """Answer a request for a file."""
        stored = self.release(release)
        file = stored.files.get(path)
        if file is None:
            raise not_found("file in this release")
        if not layout.is_public(path):
            if stored.state == "revoked":
                raise Refusal(410, "revoked", "the release was revoked: its data are not given out any more")
            token = self.require_token(request, release)
            if self.storage.accesses is not None:
                self.storage.accesses.note(token, release, now=self.settings.clock())
        return file_response(request, self.storage.blobs, stored.place, file)


def bearer(request: Request) -> str | None:
    """The token of a request's Authorization header."""
    match = _BEARER.match(request.headers.get("authorization", ""))
    return match.group(1) if match else None


def api_router(catalogue: Catalogue) -> APIRouter:
    """The routes of the API."""
    router = APIRouter(prefix="/api/v1")
    _add_health(router, catalogue)
    _add_reading(router, catalogue)
    _add_tokens(router, catalogue)
    return router


def _add_health(router: APIRouter, catalogue: Catalogue) -> None:
    @router.get("/health", response_model=documents.Health)
    def health() -> dict[str, str]:
        """Whether the catalogue answers and its database can be read."""
        catalogue.storage.releases.standing()
        return {"status": "ok"}

    @router.get("/ready", response_model=documents.Health)
    def ready() -> dict[str, str]:
        """Whether it can do its work: database and files of releases can be read; 503 says which cannot."""
        catalogue.storage.releases.standing()
        catalogue.storage.blobs.require_reachable()
        return {"status": "ok"}


def _add_reading(router: APIRouter, catalogue: Catalogue) -> None:
    store = catalogue.storage.releases
    answers = Kept[bytes](store.standing, len, _MOST_KEPT_BYTES)

    @router.get("/releases", response_model=documents.ReleaseList)
    def releases(
        cursor: Cursor = None, limit: Annotated[int, Query(ge=1, le=_MOST_RELEASES)] = _MOST_RELEASES
    ) -> Response:
        """Releases, newest first; a revoked one stays listed as revoked."""
        place = _place(cursor)

        def listed() -> bytes:
            # One more than is shown says whether there is a next page.
            seen = [catalogue.seen(summary) for summary in store.listed(place, limit + 1)]
            last = seen[limit - 1] if len(seen) > limit else None
            following = None if last is None else closed([-last["sequence"], last["release"]])
            return json.dumps({"releases": seen[:limit], "next": following}, separators=(",", ":")).encode()

        return Response(answers.of((place, limit), listed), media_type="application/json")

    @router.get("/releases/{release}", response_model=dict[str, Any])
    def one_release(release: ReleaseId) -> dict[str, object]:
        """One release: counts, privacy, utility, verdicts."""
        return catalogue.seen(catalogue.release(release).as_seen())

    @router.get("/releases/{release}/manifest")
    def manifest(release: ReleaseId, request: Request) -> Response:
        """The signed manifest, byte for byte."""
        return catalogue.file(request, release, layout.MANIFEST)

    @router.get("/releases/{release}/files", response_model=documents.Files)
    def files(
        release: ReleaseId, cursor: Cursor = None, limit: Annotated[int, Query(ge=1, le=_MOST_FILES)] = _MOST_FILES
    ) -> dict[str, object]:
        """Every file with size and sha256."""
        stored = catalogue.release(release)
        part, following = page(list(stored.files.values()), lambda file: [file.path], cursor=cursor, limit=limit)
        listed = [
            {
                "path": file.path,
                "size": file.size,
                "sha256": file.sha256,
                "public": layout.is_public(file.path),
                "url": f"/api/v1/releases/{release}/files/{file.path}",
            }
            for file in part
        ]
        return {
            "release": release,
            "manifest_digest": stored.manifest_digest,
            "files": listed,
            "next": following,
        }

    @router.get("/releases/{release}/files/{path:path}")
    @router.head("/releases/{release}/files/{path:path}", include_in_schema=False)
    def one_file(release: ReleaseId, path: str, request: Request) -> Response:
        """A file: one range (206), If-Range, If-None-Match (304); the ETag is its sha256."""
        return catalogue.file(request, release, path)

    @router.get("/roster")
    def roster() -> Response:
        """The consortium's signed roster. Get it from a hospital rather than from here, and pin it."""
        return Response(catalogue.settings.roster().to_bytes(), media_type="application/json")

    @router.get("/log")
    def log() -> Response:
        """The whole transparency log under a fresh signed head, for ``sonoshare verify --log-head``."""
        if catalogue.settings.log is None:
            raise Refusal(404, "not-found", "this catalogue serves no log")
        view = catalogue.settings.log.view()
        return Response(view.canonical(), media_type="application/json")


def _place(cursor: str | None) -> tuple[int, str] | None:
    """Sequence and identifier of the release that a page of the list comes behind."""
    key = opened(cursor, [int, str])
    if key is None:
        return None
    if not (abs(key[0]) < _MOST_SEQUENCE and re.fullmatch(IDENTIFIER, key[1])):
        raise not_of_this_list()
    return -key[0], key[1]


def _add_tokens(router: APIRouter, catalogue: Catalogue) -> None:
    @router.get("/agreement", response_model=documents.AgreementText)
    def agreement() -> dict[str, str]:
        """The data-use agreement in force."""
        return {"version": catalogue.settings.agreement.version, "text": catalogue.settings.agreement.text}

    @router.post("/agreements", status_code=201, response_model=documents.GrantedToken)
    def accept(acceptance: documents.Acceptance) -> Grant:
        """Accept the agreement for one release and get a token for it."""
        return catalogue.accept(acceptance)

    @router.delete("/tokens/current", status_code=204)
    def revoke(request: Request) -> Response:
        """Revoke the token that the request carries."""
        token = bearer(request)
        known = token is not None and catalogue.storage.tokens.revoke(token, now=catalogue.settings.clock())
        if not known:
            raise Refusal(401, "token", "no such token", {"WWW-Authenticate": 'Bearer realm="sonoshare"'})
        return Response(status_code=204)
