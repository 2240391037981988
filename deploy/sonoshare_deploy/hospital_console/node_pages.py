"""Overview, budget and log: what ``hospital status``, ``ledger`` and ``events`` say."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sonoshare_client.node.home import NodeHome
from sonoshare_client.own_eyes.overview import LedgerOverview, ledger_overview
from sonoshare_deploy.cli.event_words import about
from sonoshare_deploy.cli.events import APART, when
from sonoshare_deploy.cli.hospital_status import evidence_check, look_at, rows_of
from sonoshare_deploy.hospital_console import charts
from sonoshare_deploy.hospital_console.charts import Gauge, history_of
from sonoshare_deploy.hospital_console.log_words import kind_in_words
from sonoshare_deploy.hospital_console.study_pages import waiting_studies
from sonoshare_shared.events import EventLog
from sonoshare_shared.local_pages.pages import LocalPages
from sonoshare_shared.protocol.documents.charge import Charge, most_honest

_MOST_EVENTS: Final = 200
_MOST_CHARGES: Final = 200


@dataclass(frozen=True)
class _StudySpent:
    study: str
    charges: int
    epsilon: float
    last: str


def node_routes(home: NodeHome, pages: LocalPages) -> list[Route]:
    """Routes of the overview, the budget and the log."""

    def overview(request: Request) -> Response:
        look, (waiting, further) = look_at(home), waiting_studies(home)
        return pages.page(
            request,
            "overview",
            rows=list(rows_of(look)),
            gauge=_gauge(look.overview.ledger),
            charts=charts,
            broken=look.overview.ledger.broken,
            evidence=None if look.overview.evidence is None else evidence_check(home, look.overview.evidence),
            waiting=waiting,
            further=further,
            aside=look.quarantine["quarantined"] or 0,
            twins=look.overview.twins,
        )

    def budget(request: Request) -> Response:
        ledger = ledger_overview(home, lambda: datetime.now(UTC))
        return pages.page(
            request,
            "budget",
            ledger=ledger,
            gauge=_gauge(ledger),
            charts=charts,
            history=history_of(ledger.entries, ledger.budget.epsilon),
            by_study=_by_study(ledger.entries),
            charges=ledger.entries[::-1][:_MOST_CHARGES],
            honest=most_honest(ledger.entries),
        )

    def log(request: Request) -> Response:
        only = request.query_params.get("only", "")
        events = [_event(event) for event in EventLog(home.state.events_path).events()]
        if only == "trouble":
            events = [event for event in events if event["level"] != "info"]
        return pages.page(request, "log", events=events[::-1][:_MOST_EVENTS], only=only, most=_MOST_EVENTS)

    return [Route("/", overview), Route("/budget", budget), Route("/log", log)]


def _gauge(ledger: LedgerOverview) -> Gauge | None:
    return None if ledger.spent is None else Gauge(ledger.spent.epsilon, ledger.budget.epsilon, ledger.exact)


def _by_study(charges: tuple[Charge, ...]) -> list[_StudySpent]:
    """What each study has cost so far: the number that stands in its last entry. Who reserves has paid."""
    found: dict[str, _StudySpent] = {}
    for charge in charges:
        if charge.study:
            count = found[charge.study].charges if charge.study in found else 0
            count += charge.kind == "reserved"
            found[charge.study] = _StudySpent(charge.study, count, charge.epsilon_study, charge.time[:10])
    return list(found.values())


def _event(event: dict[str, Any]) -> dict[str, str]:
    whole = {"time": "", "level": "info", "kind": "", **event}
    return {
        "when": when(whole),
        "level": str(whole["level"]),
        "what": kind_in_words(str(whole["kind"])),
        "words": about(whole, APART),
    }
