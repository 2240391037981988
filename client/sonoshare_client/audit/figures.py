"""Figures of an audit as JSON: noisy histograms, functions of them, and public constants. No patient is read here."""

from collections.abc import Mapping
from typing import Any

from sonoshare_privacy.audits import copies, gate, membership
from sonoshare_privacy.audits.gate import Cohort, Finding
from sonoshare_privacy.audits.nearest import SHARD
from sonoshare_privacy.audits.rates import Interval, private_rate
from sonoshare_privacy.mechanisms.histograms import SplitHistogram
from sonoshare_shared.protocol.documents import AuditPlan


def public_figures(plan: AuditPlan, cohort: Cohort, detector: copies.CopyDetector) -> dict[str, Any]:
    """What is known before any patient is looked at."""
    test = gate.copy_test(plan, cohort, detector.rates)
    tolerated = gate.tolerated_patients(plan, cohort)
    points = [test.operating_point(copied, tolerated) for copied in (0, min(tolerated, cohort.trained))]
    return {
        "nominal_cohort": {"trained": cohort.trained, "held_out": cohort.held_out},
        "alpha": plan.alpha,
        "copies": {
            "epsilon": plan.epsilon_copies,
            "threshold": detector.threshold,
            "declared_recall": detector.rates.recall,
            "declared_false_rate": detector.rates.false_rate,
            "recall_by_edit": dict(detector.recall),
            "blind_spots": list(detector.blind_spots),
            "search": "every pair" if detector.looks is None else f"the {detector.looks} best of every {SHARD}",
            "critical_count": test.critical,
            "tolerated_patients": tolerated,
            "operating_points": [
                {"copied": at.copied, "pass": at.passes, "fail": at.fails, "inconclusive": at.inconclusive}
                for at in points
            ],
            "images": [],  # names of images would be un-noised; they are for the hospital's own eyes
            "patients_flagged": None,
            "rate": None,
            "interval": None,
        },
        "membership": {"auc": None, "interval": None, "tpr_at_1_fpr": None, "tpr_interval": None},
    }


def verdict_figures(verdicts: Mapping[str, Finding]) -> dict[str, str]:
    """Verdict on each attack or check, by its name."""
    return {name: finding.verdict for name, finding in verdicts.items()}


def strict_rate(split: SplitHistogram, alpha: float) -> dict[str, Any]:
    """True-positive rate of the images attack at the copy threshold, whose declared false rate is below 1 %."""
    rate = private_rate(split.trained, alpha)
    return {"tpr_at_1_fpr": rate.estimate, "tpr_interval": [rate.lower, rate.upper], "tpr_clamped": rate.clamped}


def interval_figures(of: Interval) -> dict[str, Any]:
    """An AUC with its interval."""
    return {"auc": of.estimate, "interval": [of.lower, of.upper], "clamped": of.clamped}


def split_figures(split: SplitHistogram) -> dict[str, Any]:
    """Noisy histograms of trained and held-out patients."""
    return {
        "edges": list(split.bins.edges),
        "trained": list(split.trained.counts),
        "held_out": list(split.held_out.counts),
        "epsilon": split.epsilon,
    }


def rough_figures(drawn: membership.AttackDraw) -> dict[str, Any]:
    """The rough look that placed an attack's bins."""
    return {"edges": list(drawn.rough_bins.edges), "counts": list(drawn.rough.counts), "epsilon": drawn.rough.epsilon}
