"""The gate: PASS, FAIL or INCONCLUSIVE, from charged noisy figures and public constants only.

Nothing here sees a patient, a true count or the true size of a cohort, so a verdict is post-processing of what was
charged: publishing it costs nothing more. Whether an audit is worth its charge is decided *before* it, from the
plan, the nominal cohort and the detector's declared rates alone (``foresee``).

Rules:
- PASS needs every examined attack to pass: a leak as large as the tolerated one is refuted at level alpha.
- FAIL where any attack fails: copies, when "nobody was copied" is refuted; membership, when the lower bound of
  the AUC reaches the tolerated AUC.
- Images and weights are two verdicts: the release of weights needs all that images need, and more (judge_weights).
- INCONCLUSIVE otherwise. Never PASS by default: bins that hold everybody in one place, a cohort well below its
  nominal size, or held-out patients flagged as often as trained ones all prevent it.

Error probabilities: P(PASS | leak >= tolerated) <= alpha for copies, exactly, for any cohort and any
false rate (copytest.py); for membership to the accuracy of the interval (rates.py). P(FAIL | no leak) <= alpha
for copies while cohort and false rate are at most the declared ones; far below alpha for membership.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sonoshare_privacy.audits.copytest import CopyTest
from sonoshare_privacy.audits.rates import (
    Interval,
    noise_quantile,
    private_auc,
    resolution,
    smallest_detectable_auc,
)
from sonoshare_privacy.mechanisms.histograms import NoisyHistogram, SplitHistogram
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import AuditPlan
from sonoshare_shared.protocol.documents.figures import Verdict

MEMBERSHIP_BINS: Final = 4
"""Quartiles of a rough private look (membership.py)."""

MIN_RESOLUTION: Final = 0.4
"""Two patients must fall in different bins at least this often, or the attack saw nothing (even quartiles: .75)."""

MIN_COHORT_SHARE: Final = 0.75
"""A cohort surely below this share of its nominal size cannot PASS: tolerated counts are shares of the nominal."""

BASELINE_SLACK: Final = 0.05
"""A blind baseline may separate the groups by this much of AUC: chance differences of two finite groups."""

SURE: Final = 0.01
"""Error probability of 'surely' in side checks of the cohort."""


@dataclass(frozen=True)
class DetectorRates:
    """Public rates of the copy detector, measured on public images (copies.py).

    Args:
        recall: chance that a copied patient is flagged.
        false_rate: upper limit of the chance that another patient is flagged by a whole candidate set.
    """

    recall: float
    false_rate: float


@dataclass(frozen=True)
class Cohort:
    """Nominal (public) numbers of patients.

    Args:
        trained: patients that may have been trained on.
        held_out: patients that were not.
    """

    trained: int
    held_out: int

    @classmethod
    def nominal(cls, trained: int, held_out_fraction: float) -> "Cohort":
        """Cohort of a plan: nominal trained patients, and the held-out ones its fraction implies."""
        return cls(trained, max(1, round(trained * held_out_fraction / (1.0 - held_out_fraction))))


@dataclass(frozen=True)
class Finding:
    """Verdict on one attack, with its reasons in words."""

    verdict: Verdict
    reasons: tuple[str, ...]


def tolerated_patients(plan: AuditPlan, cohort: Cohort) -> int:
    """Number of copied patients at which PASS is impossible: share of the nominal cohort, at least 1."""
    return max(1, math.ceil(plan.tolerated_share * cohort.trained - 1e-9))


def copy_test(plan: AuditPlan, cohort: Cohort, rates: DetectorRates) -> CopyTest:
    """Copy test of a plan, from public constants."""
    return CopyTest(cohort.trained, rates.false_rate, rates.recall, plan.epsilon_copies, plan.alpha)


def foresee(
    plan: AuditPlan, cohort: Cohort, rates: DetectorRates, *, membership_epsilon: float | None = None
) -> Finding | None:
    """Judge, before any budget is spent, whether the audit could see a leak of the tolerated size.

    Args:
        plan: thresholds and budgets.
        cohort: nominal cohort.
        rates: public rates of the detector.
        membership_epsilon: epsilon of the membership histograms; None where no such attack decides.

    Returns:
        An INCONCLUSIVE finding where it could not, else None.
    """
    advice = "raise epsilon, pool hospitals, or tolerate more, openly"
    reasons = []
    tolerated = tolerated_patients(plan, cohort)
    smallest = copy_test(plan, cohort, rates).smallest_detectable()
    if smallest is None or smallest > tolerated:
        seen = f"only a leak of {smallest} or more" if smallest else "no leak, not even of all,"
        reasons.append(
            f"copies: with epsilon {plan.epsilon_copies:g} {seen} of {cohort.trained} nominal patients could be "
            f"seen; tolerated fewer than {tolerated}: {advice}"
        )
    if membership_epsilon is not None:
        auc = smallest_detectable_auc(cohort.trained, cohort.held_out, MEMBERSHIP_BINS, membership_epsilon, plan.alpha)
        if auc > plan.tolerated_auc:
            reasons.append(
                f"membership: with epsilon {membership_epsilon:.3g} and nominally {cohort.trained} trained and "
                f"{cohort.held_out} held-out patients only an AUC of {auc:.2f} or more could be seen; tolerated "
                f"less than {plan.tolerated_auc:g}: {advice}"
            )
    return Finding("INCONCLUSIVE", (*reasons, "nothing was measured and nothing charged")) if reasons else None


def judge_copies(test: CopyTest, tolerated: int, split: SplitHistogram, held_out: int) -> Finding:
    """Judge the noisy copy counts (last bins) of trained and held-out patients.

    Args:
        test: copy test over the nominal cohort.
        tolerated: number of copied patients at which PASS is impossible.
        split: noisy histograms; the last bin is the copy bin.
        held_out: nominal number of held-out patients.
    """
    count = split.trained.counts[-1]
    smallest = test.smallest_detectable()
    found = test.estimate(count)
    saw = "saw none" if count < test.critical else f"saw about {found} (at least {test.lower_bound(count)})"
    words = (
        f"copies: could have seen {smallest} of {test.patients} nominal copied patients; {saw}; "
        f"at most {test.upper_bound(count)} at {1 - test.alpha:.0%} confidence; tolerated fewer than {tolerated}"
    )
    doubts = _cohort_doubt(split.trained, test.patients)
    control = CopyTest(max(1, held_out), test.false_rate, test.recall, test.epsilon, SURE)
    if split.held_out.counts[-1] >= control.critical:
        wrong = (
            "copies: held-out patients are flagged as well: the split is wrong, or the detector's declared false "
            "rate does not hold for these images"
        )
        return Finding("INCONCLUSIVE", (words, *doubts, wrong))
    if count >= test.critical:
        return Finding("FAIL", (words, *doubts))
    if test.passes(count, tolerated) and not doubts:
        return Finding("PASS", (words,))
    return Finding("INCONCLUSIVE", (words, *doubts))


def judge_auc(name: str, split: SplitHistogram, plan: AuditPlan, cohort: Cohort) -> tuple[Finding, Interval]:
    """Judge a membership attack by the AUC of trained against held-out patients.

    Args:
        name: name of the attack, in words.
        split: noisy histograms; later bins are more suspicious.
        plan: thresholds.
        cohort: nominal cohort.

    Returns:
        The finding and the AUC's interval.
    """
    auc = private_auc(split, plan.alpha)
    words = (
        f"{name}: AUC {auc.estimate:.2f}, between {auc.lower:.2f} and {auc.upper:.2f} at {1 - plan.alpha:.0%} "
        f"confidence each; tolerated less than {plan.tolerated_auc:g}"
    )
    if auc.lower >= plan.tolerated_auc:
        return Finding("FAIL", (words,)), auc
    doubts = _cohort_doubt(split.trained, cohort.trained)
    if resolution(split) < MIN_RESOLUTION:
        doubts.append(f"{name}: nearly all patients fell in one bin, so it could not have told them apart")
    if auc.upper < plan.tolerated_auc and not doubts:
        return Finding("PASS", (words,)), auc
    return Finding("INCONCLUSIVE", (words, *doubts)), auc


def judge_baseline(split: SplitHistogram) -> tuple[Finding | None, Interval]:
    """Judge the blind baseline: a score that knows no model must not tell trained from held-out patients.

    Args:
        split: noisy histograms of the blind score.

    Returns:
        An INCONCLUSIVE finding that takes the place of every membership finding where the groups surely differ (in
        either direction), else None; and the AUC's interval.
    """
    auc = private_auc(split, SURE)
    if auc.lower <= 0.5 + BASELINE_SLACK and auc.upper >= 0.5 - BASELINE_SLACK:
        return None, auc
    words = (
        f"blind baseline: without any model, trained and held-out patients differ (AUC {auc.estimate:.2f}, between "
        f"{auc.lower:.2f} and {auc.upper:.2f}): the split was not random, so no membership figure can be believed"
    )
    return Finding("INCONCLUSIVE", (words,)), auc


def combine(findings: Sequence[Finding]) -> Finding:
    """Combine the findings on all attacks: any FAIL fails, all PASS pass, anything else is INCONCLUSIVE.

    Raises:
        InputError: there is no finding; an audit that examined nothing has no verdict.
    """
    if not findings:
        raise InputError("an audit needs at least one finding")
    verdicts = {finding.verdict for finding in findings}
    verdict: Verdict = "INCONCLUSIVE"
    if "FAIL" in verdicts:
        verdict = "FAIL"
    elif verdicts == {"PASS"}:
        verdict = "PASS"
    reasons = dict.fromkeys(reason for finding in findings for reason in finding.reasons)
    return Finding(verdict, tuple(reasons))


def judge_weights(images: Finding, *, model: bool, mechanism: bool) -> Finding:
    """Judge the release of the model itself, which tells an attacker more than any images drawn from it.

    It needs all that the release of images needs, and what the images can do without: the attack on the model's own
    loss, and canaries that say the training conforms to its mechanism.

    Args:
        images: the combined finding on the release of images.
        model: the loss attack is part of it.
        mechanism: the canaries' verdict is part of it.
    """
    missing = []
    if not model:
        missing.append("weights: without the model the loss attack, which they must withstand, was not run")
    if not mechanism:
        missing.append("weights: that the training conforms to the charged mechanism was not checked")
    return combine([images, Finding("INCONCLUSIVE", tuple(missing))]) if missing else images


def _cohort_doubt(trained: NoisyHistogram, nominal: int) -> list[str]:
    """Say so where the noisy total shows a cohort surely well below its nominal size."""
    most = trained.total + noise_quantile(len(trained.counts), trained.epsilon, SURE)
    if most >= MIN_COHORT_SHARE * nominal:
        return []
    doubt = (
        f"cohort: at most about {max(0, most)} patients were trained on, well below the nominal {nominal} that the "
        "tolerated number rests on: state a smaller nominal cohort"
    )
    return [doubt]
