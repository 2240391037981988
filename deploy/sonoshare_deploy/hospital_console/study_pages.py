"""Studies that were proposed, and what persons decide: what ``hospital studies``, ``approve`` and ``refuse`` do.

An approval names the digest of the plan that the page showed; if another plan stands by then, nothing is approved.
"""

from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sonoshare_client.node.approvals import decide
from sonoshare_client.node.home import NodeHome
from sonoshare_client.own_eyes.overview import ledger_overview
from sonoshare_client.own_eyes.proposed import (
    Proposed,
    described,
    proposed_plans,
    proposed_study,
    require_shown,
    waiting_for_a_person,
)
from sonoshare_deploy.hospital_console.naming import study_of
from sonoshare_deploy.hospital_console.turning import turned
from sonoshare_shared.errors import InputError, LedgerError
from sonoshare_shared.local_pages.guard import form_of
from sonoshare_shared.local_pages.pages import LocalPages
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.proposal import MOST_WORDS

_ORDER: Final = ("waiting", "accepted", "refused")
MOST_WORKED_OUT: Final = 20
"""Plans whose cost is composed for one page: a coordinator can propose a thousand, at a good part of a second each."""
_YES: Final = "yes"


def waiting_studies(home: NodeHome) -> tuple[list[str], int]:
    """Names of the studies that wait for a person here, and how many more may; none where they cannot be read."""
    try:
        return waiting_for_a_person(home, MOST_WORKED_OUT)
    except InputError:
        return [], 0


def study_routes(home: NodeHome, pages: LocalPages) -> list[Route]:
    """Routes of studies."""

    def studies(request: Request) -> Response:
        plans, found, missing = list[StudyPlan](), list[Proposed](), ""
        try:
            plans = proposed_plans(home)
            part = turned(plans, request.query_params.get("page", ""), MOST_WORKED_OUT)
            found = sorted(described(home, part.rows, _now), key=lambda one: _ORDER.index(one.state))
        except (InputError, LedgerError) as error:
            missing, part = str(error), turned(list[StudyPlan](), "", MOST_WORKED_OUT)
        charged = ledger_overview(home, _now, exact=False).studies
        named = {plan.study for plan in plans}
        return pages.page(
            request,
            "studies",
            studies=found,
            turned=part,
            missing=missing,
            charged=charged,
            earlier=[study for study in charged if study not in named],
        )

    def study(request: Request) -> Response:
        _, shown = proposed_study(home, study_of(request), _now)
        charged = shown.study in ledger_overview(home, _now, exact=False).studies
        return pages.page(request, "study", s=shown, charged=charged, most=MOST_WORDS)

    def approve(request: Request) -> Response:
        name, form = study_of(request), form_of(request)
        plan, shown = proposed_study(home, name, _now)
        require_shown(shown, form.get("plan", ""))
        decide(home, plan, "approved")
        return pages.done(f"/studies/{name}", f"Study {name} is approved; the coordinator is told when it asks next.")

    def refuse(request: Request) -> Response:
        name, reason = study_of(request), form_of(request).get("reason", "").strip()
        if not reason:
            raise InputError("a refusal has a reason", remedy="go back, and say why, in words for the coordinator")
        plan, shown = proposed_study(home, name, _now)
        require_shown(shown, form_of(request).get("plan", ""))
        decide(home, plan, "refused", reason)
        return pages.done(f"/studies/{name}", f"Study {name} is refused; the coordinator will read: {reason}")

    return [
        Route("/studies", studies),
        Route("/studies/{study}", study),
        Route("/studies/{study}/approve", approve, methods=["POST"]),
        Route("/studies/{study}/refuse", refuse, methods=["POST"]),
    ]


def _now() -> datetime:
    return datetime.now(UTC)
