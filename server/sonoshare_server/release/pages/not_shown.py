"""What a privacy report does not show, worked out of what is missing in it: said before anybody has to ask."""

from markupsafe import Markup

from sonoshare_server.release.pages.numbers import num
from sonoshare_shared.protocol.documents.reports import PrivacyReport, ReportedHospital

_ALWAYS = (
    "Attacks on other attributes of a patient (such as a diagnosis), or by hospitals that work together.",
    "Attacks that are not known yet: the promise alone stands against them.",
    "What an attacker would do who knows more about a patient than the pictures that the hospital holds.",
    "Finer curves and distances than the public bins: each would be another private figure, and another charge.",
    "How much of a hospital's own lifetime budget is left, and what its patients paid in other studies.",
    "Whether the hospitals are as secure as they say: that is not a property of a release.",
)


def not_measured(report: PrivacyReport) -> tuple[Markup, ...]:
    """What was not measured, in sentences: what is missing in this very report, and what is missing in all."""
    hospitals = report.hospitals
    told = [
        _by("Whether the training adds the noise that it claims", [h for h in hospitals if not checked(h)]),
        _by("What the trained model itself gives away", [h for h in hospitals if not _attacked_model(h)]),
        _by("Whether the split into trained and held-out patients was random", [h for h in hospitals if not _blind(h)]),
        _by("Curves and likeness of patients' pictures", [h for h in hospitals if not _drawn(h)]),
    ]
    spots = sorted({spot for hospital in hospitals for spot in hospital.figures.copies.blind_spots})
    if spots:
        told.append(
            Markup("Copies that were altered in ways which the search often misses: {}.").format(", ".join(spots))
        )
    leaks = [one.smallest_detectable_leak for one in hospitals if one.smallest_detectable_leak is not None]
    if leaks:
        told.append(
            Markup("Leaks of fewer than {} copied patients: no audit of this strength sees them.").format(
                num(max(leaks), "%d")
            )
        )
    if any(hospital.verdict_weights != "PASS" for hospital in hospitals):
        told.append(Markup("That the model could be published: the hospitals passed the images only."))
    return (*(line for line in told if line), *map(Markup, _ALWAYS))


def _by(what: str, hospitals: list[ReportedHospital]) -> Markup:
    return (
        Markup("{}: not measured at {}.").format(what, ", ".join(one.id for one in hospitals))
        if hospitals
        else Markup()
    )


def checked(hospital: ReportedHospital) -> bool:
    """Whether the canaries of a hospital's training were looked at."""
    said = hospital.figures.mechanism
    return said is not None and said.checked


def _attacked_model(hospital: ReportedHospital) -> bool:
    return hospital.figures.membership.attack == "denoising loss" and hospital.figures.membership.auc is not None


def _blind(hospital: ReportedHospital) -> bool:
    return hospital.figures.blind_baseline is not None


def _drawn(hospital: ReportedHospital) -> bool:
    return hospital.derived is not None and bool(hospital.derived.curves) and bool(hospital.derived.likeness)
