"""The two reports of a release for machines; the manifest lists their digests, and every hospital signs it.

They say nothing of their own: the privacy report repeats the plan and the hospitals' signed statements, the utility
report the figures that were handed in.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.documents.derived import DerivedFigures
from sonoshare_shared.protocol.documents.figures import AuditFigures, Verdict
from sonoshare_shared.protocol.documents.plan import AuditPlan, CalibrationPlan, Mechanism

Count = Annotated[int, Field(ge=0)]


class ReportedImages(Document):
    """How many images were audited, how many of them vetoed, and how many released."""

    audited: Count
    vetoed: Count
    released: Count


class ReportedHospital(Document):
    """What one hospital signed; fields as in ``AuditPredicate``.

    Attributes:
        id: the hospital.
        verdict: on the release of the images.
        verdict_weights: on a release of the model.
        reasons_weights: what it rests on beyond ``reasons``.
        epsilon: of all charges of this study, training and audits composed, at ``delta``.
        delta: of ``epsilon``.
        audit_epsilon: what the audit cost.
        smallest_detectable_leak: copied patients the audit would have seen with probability 0.8; None if none.
        reasons: the verdict in words.
        figures: private figures.
        policy_digest: the audit policy it was judged by.
        ledger_head: head of the hospital's ledger after the charge.
        time: the day on which the audit was asked for; in old reports the second.
        derived: what follows from the figures and the promise; None in old reports.
    """

    id: Identifier
    verdict: Verdict
    verdict_weights: Verdict
    reasons_weights: tuple[str, ...]
    epsilon: float
    delta: float
    audit_epsilon: float
    smallest_detectable_leak: int | None
    reasons: tuple[str, ...]
    figures: AuditFigures
    policy_digest: HexDigest
    ledger_head: HexDigest
    time: AwareDatetime
    derived: DerivedFigures | None = added()


class PrivacyReport(Document):
    """What was promised to the patients behind a release, and what each hospital measured.

    Attributes:
        release: the release.
        study: the study it comes from.
        neighbouring: neighbouring relation of every number.
        epsilon: the largest of any hospital.
        delta: the largest of any hospital.
        mechanism: of one training step.
        steps: of each hospital.
        audit: what had to be measured.
        calibration: votes on phantoms; None for none.
        images: numbers of images.
        hospitals: by id.
        not_promised: in words.
        honest: hospitals that ``epsilon`` assumes to be honest, where the plan pools noise; None where it assumes none.
    """

    schema_: Literal["sonoshare/privacy-report/v1"] = Field(default="sonoshare/privacy-report/v1", alias="schema")
    release: Identifier
    study: Identifier
    neighbouring: str
    epsilon: float
    delta: float
    mechanism: Mechanism
    steps: int
    audit: AuditPlan
    calibration: CalibrationPlan | None
    images: ReportedImages
    hospitals: tuple[ReportedHospital, ...]
    not_promised: tuple[str, ...]
    honest: int | None = added()


class UtilityFigure(Document):
    """One figure of what a release is worth.

    Attributes:
        name: e.g. ``train on synthetic, test on real: AUC``.
        value: the figure.
        interval: 95 % interval, or None.
        reference: the same figure of a yardstick, or None.
        reference_name: what the yardstick is.
        note: on what, with what, how many; and what it cost, if it was charged.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    reference: float | None
    reference_name: str
    note: str


class UtilityReport(Document):
    """What a release was measured to be worth, or that it was not measured.

    Attributes:
        release: the release.
        task: the task's name.
        question: the clinical question.
        measured: whether there are figures.
        note: how they were measured, by whom, on whose patients.
        figures: the figures.
        counts: images by class.
        scanners: images by scanner style.
    """

    schema_: Literal["sonoshare/utility-report/v1"] = Field(default="sonoshare/utility-report/v1", alias="schema")
    release: Identifier
    task: Identifier
    question: str
    measured: bool
    note: str
    figures: tuple[UtilityFigure, ...]
    counts: dict[str, Count]
    scanners: dict[str, Count]
