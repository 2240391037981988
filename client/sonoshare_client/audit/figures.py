"""The figures of an audit as its signed documents: noisy histograms, functions of them, and public constants.

No patient is read here.
"""

from collections.abc import Mapping

from sonoshare_privacy.audits import copies, gate, membership
from sonoshare_privacy.audits.gate import Cohort, Finding
from sonoshare_privacy.audits.nearest import SHARD
from sonoshare_privacy.audits.rates import Interval, private_rate
from sonoshare_privacy.mechanisms.histograms import SplitHistogram
from sonoshare_shared.protocol.documents import AuditPlan
from sonoshare_shared.protocol.documents.figures import (
    AttackFigures,
    CopyFigures,
    Histograms,
    MembershipFigures,
    OperatingPoint,
    RoughLook,
    Verdict,
)


def copy_figures(
    plan: AuditPlan, cohort: Cohort, detector: copies.CopyDetector, split: SplitHistogram | None
) -> CopyFigures:
    """Figures of the copy audit; without a split only what is known before any patient is looked at."""
    test = gate.copy_test(plan, cohort, detector.rates)
    tolerated = gate.tolerated_patients(plan, cohort)
    points = [test.operating_point(copied, tolerated) for copied in (0, min(tolerated, cohort.trained))]
    public = CopyFigures(
        epsilon=plan.epsilon_copies,
        threshold=detector.threshold,
        declared_recall=detector.rates.recall,
        declared_false_rate=detector.rates.false_rate,
        recall_by_edit=dict(detector.recall),
        blind_spots=tuple(detector.blind_spots),
        search="every pair" if detector.looks is None else f"the {detector.looks} best of every {SHARD}",
        critical_count=test.critical,
        tolerated_patients=tolerated,
        operating_points=tuple(
            OperatingPoint.model_validate(
                {"copied": at.copied, "pass": at.passes, "fail": at.fails, "inconclusive": at.inconclusive}
            )
            for at in points
        ),
    )
    if split is None:
        return public
    count = split.trained.counts[-1]
    measured = {
        "patients_flagged": test.estimate(count),
        "rate": test.estimate(count) / test.patients,
        "interval": (test.lower_bound(count) / test.patients, test.upper_bound(count) / test.patients),
        "noisy_count": count,
        "histograms": histograms(split),
    }
    return CopyFigures.model_validate(public.model_dump(by_alias=True) | measured)


def attack_figures(
    name: str | None, auc: Interval, split: SplitHistogram, rough: RoughLook | None = None
) -> AttackFigures:
    """Figures of one membership attack, or of the blind baseline, which has no name."""
    return AttackFigures(
        attack=name,
        auc=auc.estimate,
        interval=(auc.lower, auc.upper),
        clamped=auc.clamped,
        histograms=histograms(split),
        rough_look=rough,
    )


def membership_figures(
    decides: AttackFigures | None, rough: RoughLook | None, copy_split: SplitHistogram | None, alpha: float
) -> MembershipFigures:
    """Figures of the attack that decides, with the strict rate of the images attack.

    The copy threshold's declared false rate is below 1 %: trained patients beyond it are its true positives.

    Args:
        decides: the attack; None if nothing was measured.
        rough: the rough look that placed its bins, if it has one.
        copy_split: histograms of copy scores; None if nothing was measured.
        alpha: error probability of each bound.
    """
    if decides is None or copy_split is None:
        return MembershipFigures()
    rate = private_rate(copy_split.trained, alpha)
    return MembershipFigures(
        attack=decides.attack,
        auc=decides.auc,
        interval=decides.interval,
        clamped=decides.clamped,
        histograms=decides.histograms,
        rough_look=rough,
        tpr_at_1_fpr=rate.estimate,
        tpr_interval=(rate.lower, rate.upper),
        tpr_clamped=rate.clamped,
    )


def verdict_figures(verdicts: Mapping[str, Finding]) -> dict[str, Verdict]:
    """Verdict on each attack or check, by its name."""
    return {name: finding.verdict for name, finding in verdicts.items()}


def histograms(split: SplitHistogram) -> Histograms:
    """Noisy histograms of trained and held-out patients."""
    return Histograms(
        edges=split.bins.edges, trained=split.trained.counts, held_out=split.held_out.counts, epsilon=split.epsilon
    )


def rough_look(drawn: membership.AttackDraw) -> RoughLook:
    """The rough look that placed an attack's bins."""
    return RoughLook(edges=drawn.rough_bins.edges, counts=drawn.rough.counts, epsilon=drawn.rough.epsilon)
