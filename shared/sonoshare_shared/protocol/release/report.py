"""The privacy report repeats plan, promise and signed statements, and a release whose report says else is refused.

Hospitals sign the report's digest with the manifest and do not see it; the catalogue and readers believe it. Rule R16
of ``release.verify``. What follows from the statements (``derived``) is worked out again; a report of before it had
that says less, and nothing false. Not promised: what the pages and the datasheet say, which are the coordinator's
words.
"""

from collections.abc import Sequence

from sonoshare_shared.errors import IntegrityError, VerificationError
from sonoshare_shared.protocol.documents.plan import StudyPlan
from sonoshare_shared.protocol.documents.release import PrivacyStatement
from sonoshare_shared.protocol.documents.reports import PrivacyReport, ReportedHospital, ReportedImages
from sonoshare_shared.protocol.documents.statement import AuditStatement
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.derived import agree, derived_figures


def privacy_report_of(
    candidate: Candidate,
    plan: StudyPlan,
    promise: PrivacyStatement,
    said: Sequence[AuditStatement],
    *,
    released: int,
    not_promised: tuple[str, ...],
) -> PrivacyReport:
    """The report of a release.

    Args:
        candidate: what was audited.
        plan: the study plan.
        promise: the manifest's.
        said: statements of all hospitals, in any order.
        released: number of the candidate's images that are released.
        not_promised: in words.
    """
    audited = len(candidate.images)
    return PrivacyReport(
        release=candidate.release,
        study=plan.study,
        neighbouring=promise.neighbouring,
        epsilon=promise.epsilon,
        delta=promise.delta,
        mechanism=plan.mechanism,
        steps=plan.steps,
        audit=plan.audit,
        calibration=plan.calibration,
        images=ReportedImages(audited=audited, vetoed=audited - released, released=released),
        hospitals=tuple(_hospital(statement) for statement in sorted(said, key=lambda s: s.predicate.hospital)),
        not_promised=not_promised,
        honest=promise.honest,
    )


def require_report(
    data: bytes,
    candidate: Candidate,
    plan: StudyPlan,
    promise: PrivacyStatement,
    said: Sequence[AuditStatement],
    *,
    released: int,
) -> None:
    """Check the report in a release; arguments as `privacy_report_of`.

    Raises:
        VerificationError: cause ``privacy``.
    """
    try:
        report = PrivacyReport.from_bytes(data)
    except IntegrityError as error:
        raise VerificationError.because("privacy", error) from error
    due = privacy_report_of(candidate, plan, promise, said, released=released, not_promised=report.not_promised)
    if not _same(report, due):
        raise VerificationError("privacy", "the privacy report is not what the plan and the signed statements say")


def _same(report: PrivacyReport, due: PrivacyReport) -> bool:
    """Equal to the letter, but for what is worked out, which may be missing and is compared as numbers are."""
    said, right = report.model_dump(mode="json"), due.model_dump(mode="json")
    for hospital, as_due in zip(said["hospitals"], right["hospitals"], strict=False):
        found, derived = hospital.pop("derived", None), as_due.pop("derived")
        if found is not None and not agree(found, derived):
            return False
    return bool(said == right)


def _hospital(statement: AuditStatement) -> ReportedHospital:
    said = statement.predicate
    return ReportedHospital(
        id=said.hospital,
        verdict=said.verdict,
        verdict_weights=said.verdict_weights,
        reasons_weights=said.reasons_weights,
        epsilon=said.spent_epsilon,
        delta=said.spent_delta,
        audit_epsilon=said.epsilon,
        smallest_detectable_leak=said.smallest_detectable_leak,
        reasons=said.reasons,
        figures=said.figures,
        policy_digest=said.policy_digest,
        ledger_head=said.ledger_head,
        time=said.time,
        derived=derived_figures(said),
    )
