"""Statements, the transparency log with its proofs, and revocations, for whoever checks without our tools.

Hashes are those of RFC 9162 (section 2.1): a leaf is an entry's canonical JSON, a proof goes from the leaf upwards.
Nothing here needs to be believed: heads are signed by the coordinator, statements and revocations by hospitals.
"""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel
from starlette.responses import Response

from sonoshare_server.catalogue.api import Catalogue, ReleaseId
from sonoshare_server.catalogue.cursors import Cursor, page
from sonoshare_server.catalogue.problems import Refusal, not_found
from sonoshare_server.catalogue.public_log import PublicLog
from sonoshare_server.catalogue.store import StoredRelease
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.base import HexDigest, Identifier
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.evidence import LogProof, release_entry

_MOST_ENTRIES = 1000
Place = Annotated[int, Query(ge=0, le=2**53)]


class Statement(BaseModel):
    """What a hospital signed about a release: its audit's statement, and its signature over the manifest."""

    hospital: Identifier
    verdict: str
    statement_url: str
    statement_sha256: HexDigest
    signature_url: str
    signature_sha256: HexDigest


class Statements(BaseModel):
    """Statements of all hospitals of a release."""

    release: Identifier
    manifest_digest: HexDigest
    statements: list[Statement]


class Entries(BaseModel):
    """Entries of the log, oldest first; ``next`` is the index to go on at."""

    size: int
    first: int
    entries: list[str]
    next: int | None


class Consistency(BaseModel):
    """That the log of ``first`` entries is the beginning of today's."""

    first: int
    proof: list[HexDigest]
    head: dict[str, Any]


class RevokedRelease(BaseModel):
    """A revocation: who, which manifest, and the envelope that was signed."""

    release: str
    manifest_digest: str
    by: str
    index: int
    signed: dict[str, Any]


class Revocations(BaseModel):
    """Revocations, oldest first."""

    revocations: list[RevokedRelease]
    next: str | None


def evidence_router(catalogue: Catalogue) -> APIRouter:
    """The routes of what can be checked."""
    router = APIRouter(prefix="/api/v1")
    _add_statements(router, catalogue)
    _add_log(router, catalogue)
    return router


def _add_statements(router: APIRouter, catalogue: Catalogue) -> None:
    @router.get("/releases/{release}/statements", response_model=Statements)
    def statements(release: ReleaseId) -> dict[str, Any]:
        """Every hospital's statement and signature, with digests and addresses."""
        stored = catalogue.release(release)
        listed = [_statement(stored, hospital) for hospital in stored.summary["hospitals"]]
        return {"release": release, "manifest_digest": stored.manifest_digest, "statements": listed}

    @router.get("/releases/{release}/proof", response_model=LogProof)
    def proof(release: ReleaseId) -> Response:
        """That the manifest is in the log, under a fresh head: of the form of `log-proof.json`."""
        stored, log = catalogue.release(release), _log(catalogue)
        index = log.index_of(release_entry(stored.release, stored.manifest_digest))
        if index is None:
            raise not_found("release in the log")
        return _json(log.inclusion(index).canonical())


def _add_log(router: APIRouter, catalogue: Catalogue) -> None:
    @router.get("/log/head", response_model=Envelope)
    def head() -> Response:
        """A fresh head, signed by the coordinator."""
        return _json(canonical_bytes(_log(catalogue).head().model_dump(mode="json")))

    @router.get("/log/entries", response_model=Entries)
    def entries(first: Place = 0, limit: Annotated[int, Query(ge=1, le=_MOST_ENTRIES)] = _MOST_ENTRIES) -> Any:
        """Some entries of the log, from an index on."""
        part = _log(catalogue).page(first, limit)
        return {"size": part.size, "first": first, "entries": part.entries, "next": part.following}

    @router.get("/log/proofs/{index}", response_model=LogProof)
    def inclusion(index: Annotated[int, Path(ge=0, le=2**53)]) -> Response:
        """That an entry is in the log, under a fresh head."""
        try:
            return _json(_log(catalogue).inclusion(index).canonical())
        except InputError:
            raise not_found("entry in the log") from None

    @router.get("/log/consistency", response_model=Consistency)
    def consistency(first: Annotated[int, Query(ge=1, le=2**53)]) -> Any:
        """That the log as it was with `first` entries is the beginning of today's."""
        try:
            nodes, head = _log(catalogue).consistency(first)
        except InputError:
            raise not_found("size of the log") from None
        return {"first": first, "proof": nodes, "head": head.model_dump(mode="json")}

    @router.get("/revocations", response_model=Revocations)
    def revocations(cursor: Cursor = None, limit: Annotated[int, Query(ge=1, le=100)] = 100) -> Any:
        """Every revocation that the log holds, with what was signed."""
        known = [json.loads(entry) | {"index": index} for index, entry in _log(catalogue).revocations()]
        revoked = [entry for entry in known if entry.get("kind") == "revocation"]
        part, following = page(revoked, lambda entry: [entry["index"]], cursor=cursor, limit=limit)
        return {"revocations": [_revocation(entry) for entry in part], "next": following}


def _statement(stored: StoredRelease, hospital: dict[str, Any]) -> dict[str, Any]:
    said = {"hospital": hospital["id"], "verdict": hospital["verdict"]}
    for what, path in (
        ("statement", layout.attestation_path(hospital["id"])),
        ("signature", layout.signature_path(hospital["id"])),
    ):
        said[f"{what}_url"] = f"/api/v1/releases/{stored.release}/files/{path}"
        said[f"{what}_sha256"] = stored.files[path].sha256
    return said


def _revocation(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "release": entry["release"],
        "manifest_digest": entry["digest"],
        "by": entry["by"],
        "index": entry["index"],
        "signed": entry["revocation"],
    }


def _log(catalogue: Catalogue) -> PublicLog:
    if catalogue.settings.log is None:
        raise Refusal(404, "not-found", "this catalogue serves no log")
    return catalogue.settings.log


def _json(data: bytes) -> Response:
    return Response(data, media_type="application/json")
