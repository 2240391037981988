"""Auditing a candidate on this hospital's patients, and the signed statement about it.

Whatever can be refused is refused before the charge, by public things alone; the vault is opened after it. What can
be written before the charge is written before it, and a statement that was signed is given again: a full disk or a
kill costs an audit only between its charge and the one small file that holds what it found.
"""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from sonoshare_client.agent.attack import ModelAttack
from sonoshare_client.agent.candidate_terms import require_asked_for, require_candidate
from sonoshare_client.agent.node import Node
from sonoshare_client.audit.auditor import Audited, AuditOutcome, audit_release
from sonoshare_client.audit.payment import LedgerPayment
from sonoshare_client.own_eyes.kept_pictures import keep_pictures
from sonoshare_privacy.audits.gate import Cohort
from sonoshare_privacy.audits.mechanism import MechanismCheck, check_mechanism
from sonoshare_privacy.audits.nearest import BytePictures
from sonoshare_privacy.audits.pooled_mechanism import with_sums
from sonoshare_privacy.canaries import joined
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents import AuditPredicate, AuditStatement, Digests, StudyPlan, Subject
from sonoshare_shared.protocol.documents.base import public_day
from sonoshare_shared.protocol.documents.charge import PureDP
from sonoshare_shared.protocol.documents.exchange import AuditRequest
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.transfer import CandidateFiles
from sonoshare_shared.science.pictures.plain import plain_grey


def audit_candidate(node: Node, plan: StudyPlan, request: AuditRequest, now: datetime) -> tuple[Envelope, bytes]:
    """Audit a candidate that is held, and sign the statement.

    Args:
        node: the hospital.
        plan: checked plan.
        request: checked request.
        now: when the audit was asked for; the statement says the day.

    Returns:
        The signed statement, the one of before if this candidate has one; no payload.

    Raises:
        NotHeldError: the candidate is not held, or not whole any more.
        IntegrityError: the candidate is not of this plan.
        BudgetError: the hospital's budget does not allow the audit.
    """
    signed = node.home.statement_path(request.candidate_digest)
    if signed.exists():
        listing = node.home.state.candidate_path(request.candidate_digest).read_bytes()
        require_asked_for(plan, request.release, Candidate.from_bytes(listing))
        return Envelope.load(signed), b""
    with node.inbox.opened(request.candidate_digest) as files:
        envelope = _audited(node, plan, request, files, now)
    return envelope, b""


def _audited(node: Node, plan: StudyPlan, request: AuditRequest, files: CandidateFiles, now: datetime) -> Envelope:
    """Whatever is read of the candidate is read before the charge."""
    candidate = files.candidate
    require_candidate(node, plan, request.release, candidate)
    pictures = _pictures(files)
    nominal = plan.cohorts[node.hospital]
    payment = LedgerPayment(
        node.ledger,
        study=plan.study,
        candidate=files.digest,
        delta=plan.mechanism.delta,
        nominal=nominal,
        max_candidates=plan.planned_candidates,
    )
    payment.require_allowed()
    attack = ModelAttack(node.model(plan, files.adapter))
    _keep_public(node, plan, files)

    def open_patients() -> Audited:
        patients = node.patients(plan, candidate.size, payment.reservation)
        return Audited(patients.trained, patients.held_out)

    outcome = audit_release(
        pictures,
        open_patients,
        size=candidate.size,
        plan=plan.audit,
        cohort=Cohort.nominal(nominal, plan.audit.held_out_fraction),
        payment=payment,
        attack=attack,
        mechanism=mechanism_of(node, plan),
        clusters=() if plan.audit.veto is None else _clusters(files),
        device=node.device,
    )
    statement = _statement(node, plan, files, outcome, now)
    envelope = Envelope.sign(STATEMENT_PAYLOAD_TYPE, statement.canonical(), node.key)
    write_atomically(node.home.statement_path(files.digest), envelope.to_bytes())
    node.record("audited", study=plan.study, release=request.release, verdict=outcome.verdict)
    return envelope


def mechanism_of(node: Node, plan: StudyPlan) -> MechanismCheck:
    """What the canaries of all rounds say; nothing is charged, because nothing but released sums is looked at."""
    charged = (signed.charge for signed in node.ledger.entries() if signed.charge.kind == "reserved")
    events = (event for charge in charged if charge.study == plan.study for event in charge.events)
    steps = sum(event.steps for event in events if not isinstance(event, PureDP))
    check = check_mechanism(joined(node.canaries(plan).records()), planned=plan.canaries, steps=steps)
    if plan.honest is None:
        return check
    seen = node.sums(plan).read()
    looked_at = seen is not None and seen.counted.numbers > 0
    return with_sums(check, seen.counted.check() if seen is not None and looked_at else None, honest=plan.honest)


def _pictures(files: CandidateFiles) -> BytePictures:
    """Every picture that would be published, and a look at every mask: a mask is no place for another picture."""
    size = files.candidate.size
    pixels = np.empty((len(files.images), size, size), np.uint8)
    for place, (image, mask) in enumerate(zip(files.images, files.masks, strict=True)):
        pixels[place] = _grey(image, size)
        if not np.isin(_grey(mask, size), (0, 255)).all():
            raise IntegrityError("a mask of the candidate holds other values than 0 and 255")
    return BytePictures(pixels)


def _grey(data: bytes, size: int) -> NDArray[np.uint8]:
    """Pixels of a plain PNG of the announced size: what is audited is all that anybody will see of the file."""
    pixels = plain_grey(data)
    if pixels.shape != (size, size):
        raise IntegrityError("an image of the candidate is not of the announced size")
    return pixels


def _statement(
    node: Node, plan: StudyPlan, files: CandidateFiles, outcome: AuditOutcome, now: datetime
) -> AuditStatement:
    spent = node.ledger.spent(plan.mechanism.delta, study=plan.study)
    predicate = AuditPredicate(
        hospital=node.hospital,
        study=plan.study,
        verdict=outcome.verdict,
        figures=outcome.figures,
        reasons=outcome.reasons,
        verdict_weights=outcome.weights.verdict,
        reasons_weights=tuple(reason for reason in outcome.weights.reasons if reason not in outcome.reasons),
        veto_votes=outcome.votes,
        smallest_detectable_leak=outcome.smallest_detectable_leak,
        epsilon=outcome.epsilon,
        policy_digest=plan.digest_of("audit"),
        ledger_head=node.ledger.head(),
        spent_epsilon=spent.epsilon,
        spent_delta=spent.delta,
        time=public_day(now),
        adapter_digest=files.candidate.model_digest,
        honest=plan.honest,
    )
    subject = Subject(name=files.candidate.release, digest=Digests(sha256=files.digest))
    return AuditStatement(subject=(subject,), predicate=predicate)


def _clusters(files: CandidateFiles) -> tuple[int, ...]:
    clusters = files.candidate.clusters
    if len(clusters) != len(files.candidate.images):
        raise IntegrityError("the plan has a veto, but the candidate's images are not clustered")
    return clusters


def _keep_public(node: Node, plan: StudyPlan, files: CandidateFiles) -> None:
    """Keep what signing needs, and the pictures for the hospital's own eyes; nothing of it depends on a patient."""
    listing = node.home.state.candidate_path(files.digest)
    listing.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(listing, files.candidate.canonical())
    write_atomically(node.home.state.audited_plan_path(files.digest), plan.canonical())
    keep_pictures(node.home, files)
