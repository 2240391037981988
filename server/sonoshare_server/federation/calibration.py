"""Votes on the phantoms of a study's releases: asked once of every hospital, and stored as they were signed.

    studies/<study>/ballot.safetensors  votes/<hospital>.dsse.json

A hospital votes once a plan and answers the same request with the same bytes, so a run that was killed is run again.
"""

from dataclasses import dataclass

from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.exchange import Question, exchange
from sonoshare_server.federation.statements import store_envelope, stored_envelopes
from sonoshare_server.home import Study
from sonoshare_shared.errors import FederationError, InputError
from sonoshare_shared.protocol.documents.exchange import Answer, CalibrateRequest, CalibrationVotes
from sonoshare_shared.protocol.documents.view import Shown
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import plan_entry
from sonoshare_shared.protocol.release.votes import VotesEvidence, votes_of

CALIBRATE_DEADLINE_SECONDS = 1800.0


@dataclass(frozen=True)
class Votes:
    """A hospital's votes as it signed them, and what they say."""

    envelope: Envelope
    votes: CalibrationVotes


def collect_votes(coordinator: Coordinator) -> None:
    """Have every hospital vote, and store what they sign.

    Raises:
        InputError: the study has no calibration.
        FederationError: a hospital did not vote; run the same again.
    """
    study, plan = coordinator.study, coordinator.study.plan
    if plan.calibration is None:
        raise InputError(f"study {plan.study} has no calibration", remedy="create one with --epsilon-calibration")
    entry, roster = plan_entry(plan.study, plan.digest()), coordinator.home.roster
    coordinator.logged(entry)

    def request(shown: Shown) -> CalibrateRequest:
        return CalibrateRequest(plan=study.plan_envelope, shown=shown)

    def verify(hospital: str, answer: Answer) -> Votes:
        return Votes(answer.signed, votes_of(hospital, answer.signed, plan, roster))

    def record(hospital: str, said: Votes) -> None:
        store_envelope(study.votes_path, hospital, said.envelope)
        study.event("voted", hospital=hospital, epsilon=said.votes.epsilon)

    question = Question(
        request=request,
        payload=study.ballot(),
        after=entry,
        deadline_seconds=CALIBRATE_DEADLINE_SECONDS,
        verify=verify,
        record=record,
        about={},
    )
    with coordinator.turn():
        exchange(coordinator, question)
    if missing := sorted(set(coordinator.hospitals) - set(stored_votes(study))):
        raise FederationError(f"{', '.join(missing)} did not vote", remedy="see the study's events, then resume it")


def stored_votes(study: Study) -> dict[str, Envelope]:
    """Signed votes that came back, by hospital of the plan."""
    return stored_envelopes(study.votes_path, study.plan)


def votes_evidence(study: Study) -> VotesEvidence | None:
    """Ballot and votes of a study; None where its plan has no calibration or a hospital has not voted yet."""
    votes = stored_votes(study)
    if study.plan.calibration is None or set(votes) != set(study.plan.cohorts):
        return None
    return VotesEvidence(study.ballot(), votes)
