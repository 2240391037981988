"""Candidates beside the own patients, and releases to take back: what ``hospital look`` and ``revoke`` do."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import torch
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.node.revoking import revocation_by
from sonoshare_client.own_eyes.view import WARNING
from sonoshare_deploy.hospital_console.comparing import Comparisons
from sonoshare_deploy.hospital_console.naming import is_name, study_of
from sonoshare_deploy.hospital_console.set_aside_pages import PNG
from sonoshare_shared.errors import InputError
from sonoshare_shared.events import EventLog
from sonoshare_shared.local_pages.guard import form_of
from sonoshare_shared.local_pages.pages import LocalPages
from sonoshare_shared.protocol.log_index import MANIFEST_ENTRY, read_entry
from sonoshare_shared.protocol.release.evidence import MOST_REASON

PICTURES: Final = (
    ("pairs.png", "Nearest pairs", "The patient's picture, and the synthetic picture most like it; red: a copy."),
    ("scores.png", "Scores", "Each patient's best score with any synthetic picture, trained and held out."),
    ("roc.png", "ROC", "Trained against held-out patients by the same score; the diagonal is guessing."),
)


@dataclass(frozen=True)
class LoggedRelease:
    """A release, as this hospital's copy of the log shows it.

    Attributes:
        name: identifier.
        manifest: digest of its manifest.
        revoked_by: who has taken it back.
    """

    name: str
    manifest: str
    revoked_by: tuple[str, ...]


def audit_routes(home: NodeHome, pages: LocalPages, device: torch.device) -> list[Route]:
    """Routes of audits and releases."""
    comparisons = Comparisons(home, device)

    def audits(request: Request) -> Response:
        verdicts = [event for event in EventLog(home.state.events_path).events() if event.get("kind") == "audited"]
        return pages.page(
            request,
            "audits",
            kept=[(study, comparisons.of(study) is not None) for study in comparisons.studies()],
            running=comparisons.running,
            verdicts=[_verdict(event) for event in verdicts[::-1]],
        )

    def compare(request: Request) -> Response:
        study = study_of(request)
        comparisons.start(study)
        return pages.done("/audits", f"The candidate of study {study} is being compared; look again in a while.")

    def compared(request: Request) -> Response:
        study = study_of(request)
        done = comparisons.of(study)
        if done is None:
            raise InputError(f"no comparison of study {study} stands here", remedy="start one on the page of audits")
        return pages.page(request, "compared", study=study, done=done, pictures=PICTURES, warning=WARNING)

    def picture(request: Request) -> Response:
        done = comparisons.of(study_of(request))
        png = None if done is None else done.pictures.get(request.path_params["name"])
        if png is None:
            raise HTTPException(404)
        return Response(png, media_type=PNG)

    def releases(request: Request) -> Response:
        return pages.page(request, "releases", releases=logged_releases(home), most=MOST_REASON)

    def revoke(request: Request) -> Response:
        form = form_of(request)
        name, reason, digest = (form.get(field, "").strip() for field in ("name", "reason", "manifest_digest"))
        if not is_name(name):
            raise InputError("this is no release's name", remedy="go back, and write it as the catalogue does")
        signed = revocation_by(home, name, reason, now=datetime.now(UTC), manifest_digest=digest or None)
        # A file that a person carries: signed here, it counts where the coordinator has entered it.
        return Response(
            signed.envelope.to_bytes(),
            media_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{name}-revocation.dsse.json"'},
        )

    return [
        Route("/audits", audits),
        Route("/audits/{study}/compare", compare, methods=["POST"]),
        Route("/audits/{study}", compared),
        Route("/audits/{study}/{name}", picture),
        Route("/releases", releases),
        Route("/releases/revoke", revoke, methods=["POST"]),
    ]


def logged_releases(home: NodeHome) -> list[LoggedRelease]:
    """Releases in this hospital's copy of the log, the newest first.

    Raises:
        IntegrityError: the copy is damaged.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for entry in map(read_entry, LogCopy.open(home.state_path).entries):
        named = str(entry.get("release")), str(entry.get("digest"))
        if entry.get("kind") in {MANIFEST_ENTRY, "release"}:
            found.setdefault(named, [])
        elif entry.get("kind") == "revocation" and named in found:
            found[named].append(str(entry.get("by")))
    return [LoggedRelease(*named, tuple(by)) for named, by in reversed(found.items())]


def _verdict(event: dict[str, Any]) -> dict[str, str]:
    return {name: str(event.get(name, "")) for name in ("study", "release", "verdict")} | {
        "day": str(event.get("time", ""))[:10]
    }
