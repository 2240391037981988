"""Voting on which kinds of phantoms look like this hospital's patients, privately.

Each trained patient votes once, by one of their images drawn by the system's randomness: for the cluster of phantoms
that it lies nearest to among those of its class. What leaves are the noisy counts of all options, charged as one pure
epsilon event before the vault is opened. Held-out patients do not vote: what they have no part in is what audits
compare with.
"""

import logging
import secrets
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_client.agent.node import Node
from sonoshare_client.vault.cohort import PatientArrays
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_privacy.mechanisms.votes import ABSTAINS, draw_votes
from sonoshare_shared.errors import IntegrityError, PolicyError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.charge import PureDP
from sonoshare_shared.protocol.documents.exchange import VOTES_PAYLOAD_TYPE, CalibrationVotes
from sonoshare_shared.protocol.documents.plan import CalibrationPlan
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.science.calibration.ballot import Ballot, ballot_from
from sonoshare_shared.science.calibration.views import seen
from sonoshare_shared.science.model.profiles import profile_named

PURPOSE = "calibration of"
_log = logging.getLogger(__name__)


def vote(node: Node, plan: StudyPlan, payload: bytes) -> tuple[Envelope, bytes]:
    """Vote on the plan's ballot and sign the noisy counts.

    Args:
        node: the hospital.
        plan: checked plan.
        payload: the ballot.

    Returns:
        The signed votes; no payload.

    Raises:
        PolicyError: the plan has no calibration, or its votes were charged before.
        IntegrityError: the ballot is not the plan's.
        ModelError: it is not a ballot.
        BudgetError: the hospital's budget does not allow it; nothing was drawn.
    """
    terms = plan.calibration
    if terms is None:
        raise PolicyError("the plan has no calibration", remedy="ask for a plan that has one")
    if sha256_hex(payload) != terms.ballot:
        raise IntegrityError("the ballot is not the plan's", remedy="send it again")
    ballot = ballot_from(payload)
    if ballot.classes != len(plan.task.classes):
        raise IntegrityError("the ballot is not for the plan's classes", remedy="make one for the plan's task")
    _require_first(node, plan)
    size = profile_named(plan.profile).size
    _see_nobody(size, node.device)
    reservation = node.ledger.reserve(
        ChargeRequest(
            study=plan.study,
            purpose=_purpose(plan),
            events=(PureDP(terms.epsilon),),
            delta=plan.mechanism.delta,
            nominal_cohort=plan.cohorts[node.hospital],
        )
    )
    patients = node.patients(plan, size, reservation).trained
    votes = draw_votes(_choices(ballot, patients, node.device), ballot.options, terms.epsilon)
    node.ledger.commit(reservation)
    node.record("voted", study=plan.study, options=ballot.options)
    return _signed(node, plan, terms, votes), b""


def _require_first(node: Node, plan: StudyPlan) -> None:
    """Votes that were charged and then lost are not drawn again: the plan was charged for one draw."""
    charged = {signed.charge.purpose for signed in node.ledger.entries() if signed.charge.kind == "reserved"}
    if _purpose(plan) in charged:
        raise PolicyError(
            "this plan's votes were charged before and did not get out", remedy="make a new study: votes pay again"
        )


def _see_nobody(size: int, device: torch.device) -> None:
    """Look at a blank picture: a device that fails is found out here, not in every patient after the charge."""
    seen(np.zeros((1, size, size), np.float32), np.zeros((1, 4), np.float32), device)


def _purpose(plan: StudyPlan) -> str:
    return f"{PURPOSE} {plan.digest()}"


def _choices(ballot: Ballot, patients: Sequence[PatientArrays], device: torch.device) -> NDArray[np.int64]:
    """The option of each patient, each worked out alone: a batch could move its last bits over a border."""
    chosen = np.empty(len(patients), dtype=np.int64)
    for place, patient in enumerate(patients):
        row = secrets.randbelow(len(patient))
        try:
            chosen[place] = ballot.chosen(patient.images[[row]], patient.labels[[row]], patient.boxes[[row]], device)[0]
        except Exception as error:  # noqa: BLE001 - one patient's image must not decide whether the others vote
            _log.warning("a patient abstains: %s", type(error).__name__)
            chosen[place] = ABSTAINS
    return chosen


def _signed(node: Node, plan: StudyPlan, terms: CalibrationPlan, votes: tuple[int, ...]) -> Envelope:
    document = CalibrationVotes(
        hospital=node.hospital,
        study=plan.study,
        plan_digest=plan.digest(),
        ballot=terms.ballot,
        votes=votes,
        epsilon=terms.epsilon,
        ledger_head=node.ledger.head(),
        log_size=node.log.size,
    )
    return Envelope.sign(VOTES_PAYLOAD_TYPE, document.canonical(), node.key)
