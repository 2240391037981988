"""The drawings of a privacy report, and what its first paragraph rests on: all of it from `PrivacyReport` alone.

A hospital whose signed figures do not hold what a drawing needs has none, and the page says so. Nothing is asked of a
hospital for a drawing.
"""

from dataclasses import dataclass
from typing import Final, Literal

from markupsafe import Markup

from sonoshare_server.release.pages.attack_plots import curves_plot, likeness_plot
from sonoshare_server.release.pages.charts import (
    Bar,
    Estimate,
    Group,
    Guide,
    bars_chart,
    estimates_chart,
    round_end,
)
from sonoshare_shared.protocol.documents.figures import Interval
from sonoshare_shared.protocol.documents.reports import PrivacyReport, ReportedHospital

WEAK_ABOVE: Final = 0.95
STRONG_BELOW: Final = 0.75
"""How often a guess may be right by the promise alone, from which the page calls the promise weak, or strong."""


@dataclass(frozen=True)
class InWords:
    """What the paragraph for an ethics board says.

    Attributes:
        guess: how often a guess whether one patient took part is right at most, by the promise alone; None where the
            report is of before this was worked out.
        alone: what that makes the promise by itself.
        passed: hospitals whose verdict on the images is PASS.
        attacked: interval of the AUC that reaches furthest, over all hospitals; None where no attack was measured.
        leak: the largest of the smallest detectable leaks; None where a hospital could have seen none.
    """

    guess: float | None
    alone: Literal["strong", "moderate", "weak"] | None
    passed: int
    attacked: Interval | None
    leak: int | None


def in_words(report: PrivacyReport) -> InWords:
    """What the first paragraph rests on; of several hospitals always the worst."""
    guesses = [hospital.derived.worst_case_guess for hospital in report.hospitals if hospital.derived is not None]
    guess = max(guesses, default=None)
    intervals = [attack.interval for one in report.hospitals if (attack := one.figures.membership).interval is not None]
    leaks = [hospital.smallest_detectable_leak for hospital in report.hospitals]
    known = [leak for leak in leaks if leak is not None]
    return InWords(
        guess=guess,
        alone=None
        if guess is None
        else "weak"
        if guess > WEAK_ABOVE
        else "strong"
        if guess < STRONG_BELOW
        else "moderate",
        passed=sum(hospital.verdict == "PASS" for hospital in report.hospitals),
        attacked=max(intervals, key=lambda interval: interval[1], default=None),
        leak=max(known) if known and len(known) == len(leaks) else None,
    )


def budget_plot(report: PrivacyReport) -> Markup:
    """What each hospital's patients paid: all charges composed, and the parts that are pure."""
    largest = max((hospital.epsilon for hospital in report.hospitals), default=1.0)
    groups = [Group(hospital.id, _charges(report, hospital)) for hospital in report.hospitals]
    return bars_chart("budget", "Privacy loss (epsilon) of each hospital's patients", groups, high=round_end(largest))


def _charges(report: PrivacyReport, hospital: ReportedHospital) -> tuple[Bar, ...]:
    bars = [Bar("all charges of this study, composed", hospital.epsilon)]
    if report.calibration is not None:
        bars.append(Bar("of them: votes on phantoms", report.calibration.epsilon, "open"))
    return (*bars, Bar("of them: this audit", hospital.audit_epsilon, "hatched"))


def copies_plot(report: PrivacyReport) -> Markup | None:
    """Part of the patients whose pictures look copied, at each hospital; None where nobody measured it."""
    rows = [
        Estimate(hospital.id, copies.rate, copies.interval)
        for hospital in report.hospitals
        if (copies := hospital.figures.copies).rate is not None
    ]
    guides = (Guide(report.audit.tolerated_share, "PASS is impossible from here"),)
    return _estimates("copies", "Trained patients whose pictures look copied, as a part of all", rows, guides)


def membership_plot(report: PrivacyReport) -> Markup | None:
    """AUC of the attack that decides, at each hospital; None where nobody measured it."""
    rows = [
        Estimate(f"{hospital.id}: {attack.attack or 'attack'}", attack.auc, attack.interval)
        for hospital in report.hospitals
        if (attack := hospital.figures.membership).auc is not None
    ]
    guides = (Guide(0.5, "chance"), Guide(report.audit.tolerated_auc, "PASS is impossible from here"))
    return _estimates("membership", "How well the strongest attack tells who was trained on (AUC)", rows, guides)


def _estimates(name: str, title: str, rows: list[Estimate], guides: tuple[Guide, ...]) -> Markup | None:
    return estimates_chart(name, title, rows, guides=guides) if rows else None


def curves_of(hospital: ReportedHospital) -> Markup | None:
    """Curves of the membership attacks at one hospital; None without histograms."""
    if hospital.derived is None or not hospital.derived.curves:
        return None
    title = f"{hospital.id}: patients named by an attack, trained against held-out"
    return curves_plot(f"roc-{hospital.id}", title, hospital.derived.curves, hospital.epsilon, hospital.delta)


def likeness_of(hospital: ReportedHospital) -> Markup | None:
    """Likeness to the nearest synthetic picture at one hospital; None without histograms."""
    if hospital.derived is None or not hospital.derived.likeness:
        return None
    title = f"{hospital.id}: likeness of patients' pictures to the nearest synthetic picture"
    return likeness_plot(f"likeness-{hospital.id}", title, hospital.derived.likeness)


def canaries_plot(report: PrivacyReport) -> Markup | None:
    """What the canaries prove against what is claimed, where they were looked at; None where nowhere."""
    groups = []
    for hospital in report.hospitals:
        said = hospital.figures.mechanism
        if said is None or not said.checked or said.epsilon_proved is None or said.epsilon_claimed is None:
            continue
        bars = (
            Bar("claimed for the steps that were looked at", said.epsilon_claimed),
            Bar("proved by the canaries (a lower bound)", said.epsilon_proved, "hatched"),
        )
        groups.append(Group(hospital.id, bars))
    if not groups:
        return None
    largest = max(bar.value for group in groups for bar in group.bars)
    return bars_chart("canaries", "Privacy loss (epsilon): claimed, and proved", groups, high=round_end(largest))


def noise_plot(report: PrivacyReport) -> Markup | None:
    """Noise of the training as a part of the stated one, measured on canaries; None where nowhere."""
    rows = [
        Estimate(
            hospital.id,
            said.noise,
            reference=said.smallest_noise_seen,
            reference_name="would have been noticed below" if said.smallest_noise_seen is not None else "",
        )
        for hospital in report.hospitals
        if (said := hospital.figures.mechanism) is not None and said.noise is not None
    ]
    if not rows:
        return None
    high = round_end(max(1.25, *(row.value for row in rows)))
    title = "Noise of the training, measured over stated"
    return estimates_chart("noise", title, rows, guides=(Guide(1.0, "as stated"),), high=high)
