"""Votes on the phantoms of a study's releases: asked once of the hospitals that took part, stored as they were signed.

    studies/<study>/ballot.safetensors  votes/<hospital>.dsse.json  voters.json

A quorum of them decides. Whose votes count is written down once, when they have been asked for; a vote that comes later
changes nothing, so that all who draw draw the same.
A hospital votes once a plan and answers the same request with the same bytes, so a run that was killed is run again.
"""

from dataclasses import dataclass

from sonoshare_server.federation.closing import participants
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.exchange import Question, exchange
from sonoshare_server.federation.statements import store_envelope, stored_envelopes
from sonoshare_server.home import Study
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.exchange import Answer, CalibrateRequest, CalibrationVotes
from sonoshare_shared.protocol.documents.view import Shown
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import plan_entry
from sonoshare_shared.protocol.release.votes import VotesEvidence, votes_of
from sonoshare_shared.state import read_state, write_state

CALIBRATE_DEADLINE_SECONDS = 1800.0


@dataclass(frozen=True)
class _Voters:
    """What ``voters.json`` holds."""

    hospitals: tuple[str, ...]


@dataclass(frozen=True)
class Votes:
    """A hospital's votes as it signed them, and what they say."""

    envelope: Envelope
    votes: CalibrationVotes


def collect_votes(coordinator: Coordinator) -> None:
    """Have the hospitals that took part vote, store what they sign, and settle whose votes count.

    Raises:
        InputError: the study has no calibration.
        FederationError: fewer than a quorum voted (all, where nobody knows who took part); run the same again.
    """
    study, plan = coordinator.study, coordinator.study.plan
    if plan.calibration is None:
        raise InputError(f"study {plan.study} has no calibration", remedy="create one with --epsilon-calibration")
    took = participants(coordinator.home, study)
    asked, needed = took or sorted(plan.cohorts), len(plan.cohorts) if took is None else plan.quorum
    before = stored_envelopes(study.votes_path, asked)
    entry = plan_entry(plan.study, plan.digest())
    coordinator.logged(entry)

    def request(shown: Shown) -> CalibrateRequest:
        return CalibrateRequest(plan=study.plan_envelope, shown=shown)

    def verify(hospital: str, answer: Answer) -> Votes:
        return Votes(answer.signed, votes_of(hospital, answer.signed, plan, coordinator.home.roster))

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
        quorum=needed - len(before),
        name="the vote",
        hospitals=tuple(hospital for hospital in asked if hospital not in before),
    )
    with coordinator.turn():
        exchange(coordinator, question)
        write_state(study.voters_path, _Voters(tuple(stored_envelopes(study.votes_path, asked))))


def stored_votes(study: Study) -> dict[str, Envelope]:
    """Signed votes that came back, by hospital of the plan."""
    return stored_envelopes(study.votes_path, study.plan.cohorts)


def votes_evidence(study: Study) -> VotesEvidence | None:
    """Ballot and the votes that count; None where the plan has no calibration, or not enough have voted yet.

    A study of earlier days has no list of voters: all of its hospitals must have voted.
    """
    if study.plan.calibration is None:
        return None
    voters = tuple(study.plan.cohorts)
    if study.voters_path.exists():
        voters = read_state(
            study.voters_path, _Voters, remedy="put back the newest copy of the study's folder"
        ).hospitals
    votes = stored_envelopes(study.votes_path, voters)
    return VotesEvidence(study.ballot(), votes) if set(votes) == set(voters) else None
