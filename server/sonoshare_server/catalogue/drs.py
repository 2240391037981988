"""GA4GH Data Repository Service 1.4: releases as bundles, their files as objects.

A bundle's id is the release's (``breast-2026-1``), a file's is ``breast-2026-1.SHA256``: content decides, so a file
that is in a release twice is one object. What is not shown is not found. Objects describe what anybody may know; the
bytes of images, masks and metadata.csv want the token of somebody who accepted the agreement, as everywhere.
"""

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from sonoshare_server.catalogue.addresses import address_of, host_of
from sonoshare_server.catalogue.api import Catalogue
from sonoshare_server.catalogue.files import media_type
from sonoshare_server.catalogue.problems import Refusal, not_found
from sonoshare_server.catalogue.store import StoredFile, StoredRelease
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.base import IDENTIFIER
from sonoshare_shared.protocol.release import layout

_VERSION: Final = "1.4.0"
_ACCESS: Final = "https"
_FILE: Final = re.compile(r"(?P<release>[a-z0-9-]+)\.(?P<sha256>[0-9a-f]{64})")
ObjectId = Annotated[
    str, Path(description="a release, or release.sha256 of one of its files", min_length=1, max_length=200)
]


class Checksum(BaseModel):
    """Of a file its sha256; of a bundle that of its contents' checksums, sorted and joined."""

    checksum: str
    type: str = "sha-256"


class AccessUrl(BaseModel):
    """Where the bytes are."""

    url: str


class Authorizations(BaseModel):
    """What is wanted of whoever reads."""

    supported_types: list[str]


class AccessMethod(BaseModel):
    """How the bytes are got: GET with ranges, and a token where one is wanted."""

    type: str = "https"
    access_id: str = _ACCESS
    access_url: AccessUrl
    authorizations: Authorizations


class Content(BaseModel):
    """A file of a bundle."""

    name: str
    id: str
    drs_uri: list[str]


class DrsObject(BaseModel):
    """A release or a file."""

    id: str
    name: str
    self_uri: str
    size: int
    created_time: str
    version: str
    mime_type: str | None = None
    checksums: list[Checksum]
    access_methods: list[AccessMethod] | None = None
    contents: list[Content] | None = None
    description: str | None = None


class ServiceInfo(BaseModel):
    """What this service is."""

    id: str
    name: str
    type: dict[str, str]
    organization: dict[str, str]
    version: str
    description: str
    maxBulkRequestLength: int = 1  # noqa: N815 - the standard's name


def drs_router(catalogue: Catalogue) -> APIRouter:
    """The routes of DRS."""
    router = APIRouter(prefix="/ga4gh/drs/v1", tags=["GA4GH DRS"])

    @router.get("/service-info", response_model=ServiceInfo)
    def service_info(request: Request) -> dict[str, Any]:
        """What this service is."""
        return {
            "id": "org.sonoshare.catalogue",
            "name": f"{catalogue.settings.title} catalogue",
            "type": {"group": "org.ga4gh", "artifact": "drs", "version": _VERSION},
            "organization": {"name": catalogue.settings.title, "url": address_of(request)},
            "version": "1",
            "description": "Synthetic breast ultrasound, audited and signed by the hospitals that it came from.",
        }

    @router.get("/objects/{object_id}", response_model=DrsObject, response_model_exclude_none=True)
    def one_object(
        object_id: ObjectId,
        request: Request,
        *,
        expand: Annotated[bool, Query(description="bundles hold no bundles: it makes no difference")] = False,
    ) -> dict[str, Any]:
        """A release as a bundle of its files, or a file with where it is read."""
        del expand
        stored, file = _found(catalogue, object_id)
        return _bundle(stored, request) if file is None else _object(stored, file, request)

    @router.get("/objects/{object_id}/access/{access_id}", response_model=AccessUrl)
    def access(object_id: ObjectId, access_id: str, request: Request) -> dict[str, str]:
        """Where a file is read. The token is asked for there and here."""
        stored, file = _found(catalogue, object_id)
        if file is None or access_id != _ACCESS:
            raise not_found("way to read this object")
        if not layout.is_public(file.path):
            if stored.state == "revoked":
                raise Refusal(410, "revoked", "the release was revoked: its data are not given out any more")
            catalogue.require_token(request, stored.release)
        return {"url": _url(stored, file, request)}

    return router


def _found(catalogue: Catalogue, object_id: str) -> tuple[StoredRelease, StoredFile | None]:
    match = _FILE.fullmatch(object_id)
    if match is None:
        if re.fullmatch(IDENTIFIER, object_id) is None:  # not every word can be asked a database for
            raise not_found("object")
        return catalogue.release(object_id), None
    stored = catalogue.release(match["release"])
    for file in stored.files.values():
        if file.sha256 == match["sha256"]:
            return stored, file
    raise not_found("object")


def _bundle(stored: StoredRelease, request: Request) -> dict[str, Any]:
    files = list(stored.files.values())
    contents = [
        {"name": file.path, "id": _id(stored, file), "drs_uri": [_drs(request, _id(stored, file))]} for file in files
    ]
    revoked = f"REVOKED: {stored.reason}" if stored.state == "revoked" else stored.summary["question"]
    return _common(stored, stored.release, request) | {
        "name": stored.release,
        "size": sum(file.size for file in files),
        "checksums": [{"checksum": sha256_hex("".join(sorted(file.sha256 for file in files)).encode())}],
        "contents": contents,
        "description": revoked,
    }


def _object(stored: StoredRelease, file: StoredFile, request: Request) -> dict[str, Any]:
    wanted = "None" if layout.is_public(file.path) else "BearerAuth"
    method = {"access_url": {"url": _url(stored, file, request)}, "authorizations": {"supported_types": [wanted]}}
    return _common(stored, _id(stored, file), request) | {
        "name": file.path,
        "size": file.size,
        "mime_type": media_type(file.path).partition(";")[0],
        "checksums": [{"checksum": file.sha256}],
        "access_methods": [method],
    }


def _common(stored: StoredRelease, identifier: str, request: Request) -> dict[str, Any]:
    return {
        "id": identifier,
        "self_uri": _drs(request, identifier),
        "created_time": stored.summary["created"],
        "version": stored.manifest_digest,
    }


def _id(stored: StoredRelease, file: StoredFile) -> str:
    return f"{stored.release}.{file.sha256}"


def _drs(request: Request, identifier: str) -> str:
    return f"drs://{host_of(request)}/{identifier}"


def _url(stored: StoredRelease, file: StoredFile, request: Request) -> str:
    return f"{address_of(request)}/api/v1/releases/{stored.release}/files/{file.path}"
