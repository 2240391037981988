"""Candidates of a study: how many there may be, which place a new one takes, and why one was not passed.

Example: a plan of two candidates, and ``r1``, which a hospital failed. ``r2`` takes the second place, is drawn with the
second seed (``StudyPlan.seed_of``), and is the last; ``r3`` is refused before it is drawn.

A candidate's place is its position among the study's candidates in the transparency log, which hospitals hold too: none
of them audits a candidate that says another place. So a candidate that was refused, or that nobody answered about,
keeps its place for ever.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sonoshare_server.federation.closing import whom_to_ask
from sonoshare_server.federation.statements import stored_envelopes
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_shared.errors import InputError, RefusedError
from sonoshare_shared.protocol.documents import AuditStatement
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.signed import Signed


def place_of(home: CoordinatorHome, study: Study, release: str) -> int:
    """Which place among the study's candidates a release takes, from 1; asked before it is drawn or audited.

    Raises:
        RefusedError: as many candidates as the plan has were audited.
        InputError: the release was drawn for a place that another candidate has taken since.
    """
    logged, planned = home.log().index.candidates(study.plan.study), study.plan.planned_candidates
    place = logged.index(release) + 1 if release in logged else len(logged) + 1
    if place > planned:
        raise RefusedError(
            f"study {study.plan.study} has {planned} planned candidate{'s' if planned > 1 else ''}, which "
            f"{'were' if planned > 1 else 'was'} audited: {', '.join(logged)}",
            remedy="create a new study with more --candidates: every audit is paid for in advance",
        )
    listing = study.candidate(release).listing_path
    if listing.exists() and Candidate.from_bytes(listing.read_bytes()).place != place:
        raise InputError(
            f"{release} was drawn for a place that another candidate has taken since",
            remedy=f"remove the folder candidates/{release} of the study and run the same again",
        )
    return place


def said_of(home: CoordinatorHome, study: Study, release: str) -> dict[str, AuditStatement]:
    """What the hospitals that are asked have said of a candidate so far, signatures checked, by hospital."""
    roster, said = home.roster, {}
    stored = stored_envelopes(study.candidate(release).statements_path, whom_to_ask(home, study))
    for hospital, envelope in stored.items():
        entry = roster.hospital(hospital)
        if entry is not None:
            key = envelope.signer_among(roster.keys_of(entry)) or entry.key
            said[hospital] = Signed.opened(AuditStatement, envelope, key, STATEMENT_PAYLOAD_TYPE).document
    return said


def objections_to(study: Study, release: str, said: Mapping[str, AuditStatement], asked: Collection[str]) -> list[str]:
    """Why a candidate may not be published, hospital by hospital; empty when all that are asked say PASS."""
    objections = []
    for hospital in sorted(asked):
        statement = said.get(hospital)
        if statement is None:
            why = why_silent(study.events(), hospital, release)
            objections.append(f"{hospital} {why if why.startswith('refused') else f'gave no verdict: {why}'}")
        elif statement.predicate.verdict != "PASS":
            reasons = ", ".join(statement.predicate.reasons) or "no reason given"
            objections.append(f"{hospital} says {statement.predicate.verdict} ({reasons})")
    return objections


def why_silent(events: Sequence[Mapping[str, Any]], hospital: str, release: str) -> str:
    """Why a hospital said nothing usable, by the newest event about it and this release in the newest action."""
    begun = max((place for place, event in enumerate(events) if event["kind"] == "online"), default=0)
    about = [
        event
        for event in events[begun:]
        if event.get("hospital") == hospital
        and event["kind"] in {"refused", "missing"}
        and event.get("release", release) == release
        and "round" not in event
    ]
    if not about:
        return "it was not asked"
    if about[-1]["kind"] == "missing":
        return "it did not answer in time"
    said = str(about[-1].get("reason", "")).removeprefix(f"{hospital} refused: ")
    return f"refused: {said}"
