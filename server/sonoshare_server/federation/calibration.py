"""Votes on the phantoms of a study's releases: asked once of every hospital, and stored as they were signed.

    studies/<study>/ballot.safetensors  votes/<hospital>.dsse.json

A hospital votes once a plan and answers the same request with the same bytes, so a run that was killed is run again.
"""

from sonoshare_server.federation.home import Study, Witness
from sonoshare_server.federation.rounds import Coordinator, introduce
from sonoshare_server.federation.statements import answer_of, store_envelope, stored_envelopes
from sonoshare_shared.errors import FederationError, InputError, SonoShareError
from sonoshare_shared.protocol.documents.exchange import CalibrateRequest, CalibrationVotes, encode_frame, plan_entry
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.votes import VotesEvidence, votes_of

CALIBRATE_DEADLINE_SECONDS = 1800.0


def collect_votes(coordinator: Coordinator) -> None:
    """Have every hospital vote, and store what they sign.

    Raises:
        InputError: the study has no calibration.
        FederationError: a hospital did not vote; run the same again.
    """
    study, plan = coordinator.study, coordinator.study.plan
    if plan.calibration is None:
        raise InputError(f"study {plan.study} has no calibration", remedy="create one with --epsilon-calibration")
    index = coordinator.logged(plan_entry(plan.study, plan.digest()))
    introduce(coordinator)
    requests = {
        hospital: encode_frame(
            CalibrateRequest(
                plan=study.plan_envelope,
                evidence=coordinator.evidence(hospital, index),
                ledger_witness=coordinator.witness_of(hospital),
            ),
            study.ballot(),
        )
        for hospital in coordinator.hospitals
    }
    replies = coordinator.fleet.ask(requests, CALIBRATE_DEADLINE_SECONDS)
    for hospital in coordinator.hospitals:
        try:
            votes = _stored(coordinator, hospital, replies)
        except SonoShareError as error:
            study.event("refused", hospital=hospital, reason=str(error))
            continue
        study.witness(hospital, Witness(log_size=votes.log_size, ledger_head=votes.ledger_head))
        study.event("voted", hospital=hospital, epsilon=votes.epsilon)
    if missing := sorted(set(coordinator.hospitals) - set(stored_votes(study))):
        raise FederationError(f"{', '.join(missing)} did not vote", remedy="see the study's events, then resume it")


def stored_votes(study: Study) -> dict[str, Envelope]:
    """Signed votes that came back, by hospital of the plan."""
    return stored_envelopes(study.path / layout.VOTES, study.plan)


def votes_evidence(study: Study) -> VotesEvidence | None:
    """Ballot and votes of a study; None where its plan has no calibration or a hospital has not voted yet."""
    votes = stored_votes(study)
    if study.plan.calibration is None or set(votes) != set(study.plan.cohorts):
        return None
    return VotesEvidence(study.ballot(), votes)


def _stored(coordinator: Coordinator, hospital: str, replies: dict[str, bytes]) -> CalibrationVotes:
    envelope = answer_of(replies, hospital)
    votes = votes_of(hospital, envelope, coordinator.study.plan, coordinator.home.roster)
    store_envelope(coordinator.study.path / layout.VOTES, hospital, envelope)
    return votes
