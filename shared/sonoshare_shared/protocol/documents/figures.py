"""The figures of an audit statement: noisy histograms, functions of them, and public constants.

Each number here is either public (a constant of plan, detector or cohort as declared), or drawn once with noise that
the hospital's ledger was charged for, or computed from such draws. There is no place for anything else: no count of
patients or images, no score, and no name of an image (``CopyFigures.images`` is always empty).

A figure that was not measured is null, or left out where the attack it belongs to was not run at all.
"""

from typing import Annotated, Literal

from pydantic import Field

from sonoshare_shared.protocol.documents.base import Document, added

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Interval = tuple[float, float]
Chance = Annotated[float, Field(ge=0, le=1)]


class Histograms(Document):
    """Noisy counts of patients by score, one patient in one bin.

    Attributes:
        edges: inner borders of the public bins.
        trained: noisy counts of trained patients, one more than there are edges.
        held_out: of held-out patients.
        epsilon: what both cost together: no patient is in both.
    """

    edges: tuple[float, ...]
    trained: tuple[int, ...]
    held_out: tuple[int, ...]
    epsilon: float


class RoughLook(Document):
    """Noisy counts of all patients in coarse bins around public scores: where an attack's bins were placed by.

    Attributes:
        edges: inner borders of the coarse bins.
        counts: noisy counts.
        epsilon: what they cost.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    epsilon: float


class NominalCohort(Document):
    """Numbers of patients as declared in public."""

    trained: int
    held_out: int


class OperatingPoint(Document):
    """Exact chances of the copy test's outcomes, were ``copied`` patients copied."""

    copied: int
    passes: Chance = Field(alias="pass")
    fails: Chance = Field(alias="fail")
    inconclusive: Chance


class CopyFigures(Document):
    """The copy audit.

    Attributes:
        epsilon: what it costs.
        threshold: score from which an image is taken for a copy.
        declared_recall: part of planted copies that the detector is declared to find.
        declared_false_rate: part of unrelated patients that it is declared to flag.
        recall_by_edit: part of public planted copies that it found, by how they were altered.
        blind_spots: edits that it misses too often to count on.
        search: how candidates were searched.
        critical_count: noisy count from which the test says FAIL.
        tolerated_patients: copied patients at which PASS must be impossible.
        operating_points: chances with none and with the tolerated number copied.
        images: empty: names of images would be un-noised.
        patients_flagged: estimate of copied patients; null if nothing was measured.
        rate: the same as a part of the nominal cohort.
        interval: of the rate.
        noisy_count: trained patients beyond the threshold, with noise.
        histograms: what all of it was computed from.
    """

    epsilon: float
    threshold: float
    declared_recall: float
    declared_false_rate: float
    recall_by_edit: dict[str, float]
    blind_spots: tuple[str, ...]
    search: str
    critical_count: int
    tolerated_patients: int
    operating_points: tuple[OperatingPoint, ...]
    images: Annotated[tuple[str, ...], Field(max_length=0)] = ()
    patients_flagged: float | None = None
    rate: float | None = None
    interval: Interval | None = None
    noisy_count: int | None = added()
    histograms: Histograms | None = added()


class AttackFigures(Document):
    """One membership attack.

    Attributes:
        attack: its name.
        auc: area under the curve; null if it was not measured.
        interval: of the AUC.
        clamped: whether the AUC was brought back into 0..1.
        histograms: what it was computed from.
        rough_look: what placed its bins.
    """

    attack: str | None = added()
    auc: float | None = None
    interval: Interval | None = None
    clamped: bool | None = added()
    histograms: Histograms | None = added()
    rough_look: RoughLook | None = added()


class MembershipFigures(AttackFigures):
    """The membership attack that decides, and the released images' true-positive rate where 1 % are false.

    Attributes:
        tpr_at_1_fpr: of the copy threshold, whose declared false rate is below 1 %.
        tpr_interval: of it.
        tpr_clamped: whether it was brought back into 0..1.
    """

    tpr_at_1_fpr: float | None = None
    tpr_interval: Interval | None = None
    tpr_clamped: bool | None = added()


class MechanismFigures(Document):
    """What the canaries of the training say; it costs nothing.

    Attributes:
        checked: whether there was enough to tell.
        canaries: of the plan.
        steps: with canaries on record.
        steps_charged: of the hospital, as charged.
        faults: in what the run does not conform.
        noise: measured, over the stated.
        smallest_noise_seen: noise below this part of the stated would have been noticed.
        rate: sampling rate times contribution, measured over stated.
        epsilon_proved: lower bound.
        epsilon_claimed: of the same steps.
        sum_noise: where hospitals pool their noise: an upper estimate of the sums' noise, over the stated.
        sum_noise_smallest: noise of the sums below this part of the stated would have been noticed.
        sum_numbers: how many numbers of the sums were looked at.
    """

    checked: bool
    canaries: int
    steps: int | None = added()
    steps_charged: int | None = added()
    faults: tuple[str, ...] | None = added()
    noise: float | None = added()
    smallest_noise_seen: float | None = added()
    rate: float | None = added()
    epsilon_proved: float | None = added()
    epsilon_claimed: float | None = added()
    sum_noise: float | None = added()
    sum_noise_smallest: float | None = added()
    sum_numbers: int | None = added()


class VetoFigures(Document):
    """The votes on clusters of images, which stand beside the figures (``AuditPredicate.veto_votes``)."""

    epsilon: float
    threshold: int
    clusters: int


class VerdictFigures(Document):
    """Both verdicts, and that of each attack or check by its name."""

    release_images: Verdict
    release_weights: Verdict
    by_attack: dict[str, Verdict]


class AuditFigures(Document):
    """All figures of one audit; what was not run is left out."""

    nominal_cohort: NominalCohort
    alpha: float
    copies: CopyFigures
    membership: MembershipFigures
    images_attack: AttackFigures | None = added()
    blind_baseline: AttackFigures | None = added()
    mechanism: MechanismFigures | None = added()
    veto: VetoFigures | None = added()
    verdicts: VerdictFigures
