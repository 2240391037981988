"""The votes that a release was drawn by: the ballot and every hospital's signed counts, as they lie in the release.

Bytes in, checked values out; the ballot is not opened here, only named by its digest. Rule R15 of ``release.verify``.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sonoshare_shared.errors import IntegrityError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import Roster, StudyPlan
from sonoshare_shared.protocol.documents.exchange import VOTES_PAYLOAD_TYPE, CalibrationVotes
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.signed import Signed


@dataclass(frozen=True)
class VotesEvidence:
    """What was voted on, and how.

    Attributes:
        ballot: bytes of the ballot.
        votes: signed votes by hospital id.
    """

    ballot: bytes
    votes: Mapping[str, Envelope]

    def files(self) -> dict[str, bytes]:
        """The files of a release that hold this, by path."""
        signed = {layout.votes_path(hospital): envelope.to_bytes() for hospital, envelope in self.votes.items()}
        return {layout.BALLOT: self.ballot, **signed}


def require_votes(
    evidence: VotesEvidence, plan: StudyPlan, roster: Roster, participants: Collection[str] | None = None
) -> tuple[CalibrationVotes, ...]:
    """Check that hospitals of a plan have voted once each on the plan's ballot, at the plan's price.

    Args:
        evidence: ballot and votes.
        plan: a plan that has a calibration.
        roster: who may speak.
        participants: hospitals that took part in the study: at least a quorum of them, and nobody else, must have
            voted. None where that is not known: every hospital of the plan must have.

    Returns:
        The votes in the order of the hospitals' ids.

    Raises:
        VerificationError: cause ``calibration``; a signature that does not hold keeps its own cause.
    """
    terms = plan.calibration
    if terms is None or sha256_hex(evidence.ballot) != terms.ballot:
        raise VerificationError("calibration", "the ballot is not the one that the plan names")
    if not _may_decide(evidence.votes.keys(), plan, participants):
        raise VerificationError("calibration", "the votes are not those of the plan's hospitals")
    said = tuple(votes_of(hospital, evidence.votes[hospital], plan, roster) for hospital in sorted(evidence.votes))
    if len({len(each.votes) for each in said}) != 1:
        raise VerificationError("calibration", "two hospitals voted on different numbers of options")
    return said


def _may_decide(voters: Collection[str], plan: StudyPlan, participants: Collection[str] | None) -> bool:
    if participants is None:
        return set(voters) == set(plan.cohorts)
    return len(voters) >= plan.quorum and set(voters) <= set(participants)


def votes_of(hospital: str, envelope: Envelope, plan: StudyPlan, roster: Roster) -> CalibrationVotes:
    """Verify the votes of one hospital.

    Raises:
        VerificationError: as `require_votes`.
    """
    entry, terms = roster.hospital(hospital), plan.calibration
    if entry is None or terms is None:
        raise VerificationError("calibration", f"{hospital} has no vote under this plan and roster")
    try:
        key = envelope.signer_among(roster.keys_of(entry)) or entry.key
        votes = Signed.opened(CalibrationVotes, envelope, key, VOTES_PAYLOAD_TYPE).document
    except IntegrityError as error:
        raise VerificationError.because("calibration", error, f"votes of {hospital}: ") from error
    expected = (hospital, plan.study, plan.digest(), terms.ballot, terms.epsilon)
    if (votes.hospital, votes.study, votes.plan_digest, votes.ballot, votes.epsilon) != expected:
        raise VerificationError("calibration", f"{hospital} voted under another plan, ballot or price")
    return votes
