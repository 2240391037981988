"""The auditor: asks of a candidate set what this hospital's patients would want asked, privately.

One implementation for the federation (model at hand, charges in the hospital's ledger) and for the stand-alone
``sonoshare audit`` (a folder of images of any generator). The mathematics is ``sonoshare_privacy.audits``.

Order, visibly: check, calibrate on public images, foresee (an audit that could not see ends here and costs
nothing), *reserve the charge*, open the patients and score them, draw the noise once, judge, *commit*, and only then
return figures. Whatever fails before the reserve is a function of public things and charges nothing; a failure after
it leaves the charge standing.

What an outcome reveals: noisy histograms (charged), and functions of them, of the candidate set and of public
constants. The true number of patients, of images, any score, any name of a patient or image: never. Neighbouring
relation: add or remove one patient with all of their images; trained and held-out patients are disjoint.

Does not promise: constant running time (it grows with the number of images and stays inside the hospital).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_client.audit.figures import (
    attack_figures,
    copy_figures,
    membership_figures,
    rough_look,
    verdict_figures,
)
from sonoshare_client.audit.patient_images import ImagesOf, PatientImages
from sonoshare_client.audit.payment import Payment
from sonoshare_privacy.audits import copies, gate, membership, veto
from sonoshare_privacy.audits.gate import Cohort, Finding
from sonoshare_privacy.audits.mechanism import MechanismCheck
from sonoshare_privacy.audits.nearest import Pictures, looks_for
from sonoshare_privacy.audits.reference import reference_images
from sonoshare_privacy.mechanisms.geometric import SYSTEM_RANDOM, RandomBelow
from sonoshare_privacy.mechanisms.histograms import PublicBins, SplitHistogram, draw_split
from sonoshare_privacy.mechanisms.votes import draw_votes
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import AuditPlan
from sonoshare_shared.protocol.documents.charge import PureDP
from sonoshare_shared.protocol.documents.figures import (
    AttackFigures,
    AuditFigures,
    NominalCohort,
    RoughLook,
    Verdict,
    VerdictFigures,
    VetoFigures,
)
from sonoshare_shared.protocol.documents.plan import VetoPlan
from sonoshare_shared.science.device import CPU

LOSS: Final = "denoising loss"
MECHANISM: Final = "mechanism"

_LOSS_REFERENCE: Final = 32
"""Phantoms whose losses place the coarse bins of the loss attack."""


class LossAttack(Protocol):
    """The model that the candidates were drawn from, as the loss attack meets it."""

    def losses(self, patient: Any, times: NDArray[np.int64], noise: NDArray[np.float32]) -> NDArray[np.float64]:
        """Denoising loss of each image and draw, [images, D]; times [D], noise [D, S, S]."""

    def reference(self, images: NDArray[np.float32]) -> Sequence[Any]:
        """Public images as patients of one image each."""


@dataclass(frozen=True)
class Audited:
    """The patients of an audit.

    Args:
        trained: patients that may have been trained on.
        held_out: patients that were not; none of them is in ``trained``.
    """

    trained: Sequence[PatientImages]
    held_out: Sequence[PatientImages]


@dataclass(frozen=True)
class AuditOutcome:
    """What leaves the hospital.

    Args:
        verdict: on the release of the images.
        weights: on the release of the model itself, with its reasons; never better than ``verdict``.
        figures: private figures with intervals.
        reasons: the verdict in words.
        smallest_detectable_leak: copied patients that would have been seen with probability 0.8; None if not even all.
        epsilon: what was charged (pure), 0 where the audit could not have seen anything.
        votes: noisy votes of each cluster of candidates; empty where the plan has no veto or nothing was charged.
    """

    verdict: Verdict
    weights: Finding
    figures: AuditFigures
    reasons: tuple[str, ...]
    smallest_detectable_leak: int | None
    epsilon: float
    votes: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Scores:
    """True scores, one per patient (they stay here), and the public bins they will be counted in."""

    trained: NDArray[np.float64]
    held_out: NDArray[np.float64]
    bins: PublicBins


@dataclass(frozen=True)
class _Scored:
    """Scores of all attacks that are run, and the cluster that each trained patient flags where there is a veto."""

    copies: _Scores
    loss: _Scores | None
    blind: _Scores | None
    flagged: NDArray[np.int64] | None


@dataclass
class _Audit:
    """One run: public constants, and what has been judged so far, by attack or check.

    What is in ``findings`` decides; ``others`` are told only.
    """

    plan: AuditPlan
    cohort: Cohort
    detector: copies.CopyDetector
    mechanism: MechanismCheck | None
    findings: dict[str, Finding] = field(default_factory=dict)
    others: dict[str, Finding] = field(default_factory=dict)
    votes: tuple[int, ...] = ()
    copy_split: SplitHistogram | None = None
    membership: AttackFigures | None = None
    rough: RoughLook | None = None
    images_attack: AttackFigures | None = None
    baseline: AttackFigures | None = None
    veto: VetoFigures | None = None

    def draw_and_judge(
        self, scored: _Scored, epsilon_baseline: float, clusters: Sequence[int], below: RandomBelow
    ) -> None:
        """Draw every noisy number once and judge it; the charge is durable by now."""
        of, plan = scored.copies, self.plan
        split = draw_split(of.trained, of.held_out, of.bins, plan.epsilon_copies, below)
        self.judge_copies(split)
        distrust = self.judge_baseline(scored.blind, epsilon_baseline, below)
        self.judge_membership("released images", split, decides=scored.loss is None, distrust=distrust)
        if scored.loss is not None:
            of = scored.loss
            drawn = membership.draw_attack(of.trained, of.held_out, of.bins, plan.epsilon_membership, below)
            self.judge_membership(LOSS, drawn.split, decides=True, distrust=distrust)
            self.rough = rough_look(drawn)
        if scored.flagged is not None:
            self.draw_votes(scored.flagged, max(clusters) + 1, below)

    def judge_mechanism(self) -> None:
        """Take over what the canaries say; it is free, and stands whether or not patients are measured."""
        if self.mechanism is not None and self.mechanism.finding is not None:
            self.findings[MECHANISM] = self.mechanism.finding

    def outcome(self, smallest: int | None, epsilon: float) -> AuditOutcome:
        """Both verdicts, from everything judged so far."""
        images = gate.combine(list(self.findings.values()))
        # A finding on pooled sums alone says nothing of clipping or sampling: the canaries must have spoken.
        checked = self.mechanism is not None and self.mechanism.figures.checked
        weights = gate.judge_weights(images, model=LOSS in self.findings, mechanism=checked)
        verdicts = VerdictFigures(
            release_images=images.verdict,
            release_weights=weights.verdict,
            by_attack=verdict_figures(self.findings | self.others),
        )
        unchecked = self.mechanism.words if self.mechanism and self.mechanism.finding is None else ()
        reasons = (*images.reasons, *unchecked)
        figures = self._figures(verdicts)
        return AuditOutcome(images.verdict, weights, figures, reasons, smallest, epsilon, self.votes)

    def judge_baseline(self, blind: _Scores | None, epsilon: float, below: RandomBelow) -> Finding | None:
        """Draw the blind baseline, if it is run; a finding means that no membership figure can be believed."""
        if blind is None:
            return None
        drawn = membership.draw_attack(blind.trained, blind.held_out, blind.bins, epsilon, below)
        finding, auc = gate.judge_baseline(drawn.split)
        self.baseline = attack_figures(None, auc, drawn.split, rough_look(drawn))
        return finding

    def draw_votes(self, flagged: NDArray[np.int64], clusters: int, below: RandomBelow) -> None:
        """Draw every cluster's noisy count, once; the charge is durable by now. No verdict rests on it."""
        plan = _veto_of(self.plan)
        self.votes = draw_votes(flagged, clusters, plan.epsilon, below)
        self.veto = VetoFigures(epsilon=plan.epsilon, threshold=plan.threshold, clusters=clusters)

    def judge_copies(self, split: SplitHistogram) -> None:
        """Judge the copy counts."""
        test = gate.copy_test(self.plan, self.cohort, self.detector.rates)
        tolerated = gate.tolerated_patients(self.plan, self.cohort)
        self.findings["copies"] = gate.judge_copies(test, tolerated, split, self.cohort.held_out)
        self.copy_split = split

    def judge_membership(self, name: str, split: SplitHistogram, *, decides: bool, distrust: Finding | None) -> None:
        """Judge one membership attack; ``distrust`` takes the place of its finding."""
        finding, auc = gate.judge_auc(f"membership ({name})", split, self.plan, self.cohort)
        finding = distrust or finding
        (self.findings if decides or finding.verdict == "FAIL" else self.others)[name] = finding
        found = attack_figures(name, auc, split)
        if decides:
            self.membership = found
        else:
            self.images_attack = found

    def _figures(self, verdicts: VerdictFigures) -> AuditFigures:
        """Everything drawn so far, and the public constants that it is judged by."""
        plan, cohort = self.plan, self.cohort
        return AuditFigures(
            nominal_cohort=NominalCohort(trained=cohort.trained, held_out=cohort.held_out),
            alpha=plan.alpha,
            copies=copy_figures(plan, cohort, self.detector, self.copy_split),
            membership=membership_figures(self.membership, self.rough, self.copy_split, plan.alpha),
            images_attack=self.images_attack,
            blind_baseline=self.baseline,
            mechanism=None if self.mechanism is None else self.mechanism.figures,
            veto=self.veto,
            verdicts=verdicts,
        )


def audit_release(
    candidates: Pictures,
    open_patients: Callable[[], Audited],
    *,
    size: int,
    plan: AuditPlan,
    cohort: Cohort,
    payment: Payment,
    attack: LossAttack | None = None,
    mechanism: MechanismCheck | None = None,
    epsilon_baseline: float = 0.0,
    clusters: Sequence[int] = (),
    below: RandomBelow = SYSTEM_RANDOM,
    device: torch.device = CPU,
    told: Callable[[int, int], None] | None = None,
) -> AuditOutcome:
    """Audit a candidate set on this hospital's patients.

    Args:
        candidates: pictures [n, S, S] in 0..1, n >= 1; read in parts, several times over.
        open_patients: called once the charge is durable, never before; gives the patients, on the same grid.
        size: side S of the grid.
        plan: thresholds and budgets. Without ``attack`` nothing of ``epsilon_membership`` is spent.
        cohort: nominal (public) numbers of patients.
        payment: where the charge is made durable.
        attack: the model that the candidates were drawn from; None audits images of an unknown generator.
        mechanism: what the canaries of the model's training say; None where it was not trained here.
        epsilon_baseline: budget of the blind baseline, for lists that were not split at random by construction; 0
            leaves it out.
        clusters: public cluster of each candidate, for the plan's veto; empty where no votes are asked for.
        below: source of the noise.
        device: of the copy search; the attack computes where its model is.
        told: called with (images compared, images in all), which counts patients' pictures: for a person who holds them
            and audits a folder alone; an agent gives none.

    Returns:
        The outcome. An audit that could not have seen a tolerated leak is INCONCLUSIVE and charged nothing.

    Raises:
        InputError: the candidates (before the charge) or patients (after it) are not grey images of this grid.
        BudgetError: the budget does not allow the charge; nothing was released.
        PolicyError: the plan's number of audits is used up.
    """
    _require_grid(candidates, size)
    if clusters and len(clusters) != len(candidates):
        raise InputError("a veto needs the cluster of every candidate", remedy="sample the candidate again")
    reference = reference_images(size)
    detector = copies.calibrate(
        candidates, reference, device, looks_for(len(candidates), cohort.trained + cohort.held_out)
    )
    epsilon_fine = membership.fine_epsilon(plan.epsilon_membership) if attack else None
    audit = _Audit(plan, cohort, detector, mechanism)
    audit.judge_mechanism()
    smallest = gate.copy_test(plan, cohort, detector.rates).smallest_detectable()
    blind = gate.foresee(plan, cohort, detector.rates, membership_epsilon=epsilon_fine)
    if blind is not None:
        audit.findings["foresight"] = blind
        return audit.outcome(smallest, 0.0)

    events = _events(plan, loss=attack is not None, epsilon_baseline=epsilon_baseline, votes=bool(clusters))
    payment.reserve(events)
    patients = _opened(open_patients, size)
    of_copies, nearest = _score_copies(detector, candidates, patients, device, told)
    scored = _Scored(
        copies=of_copies,
        loss=_score_losses(attack, patients, reference) if attack else None,
        blind=_score_blindly(patients, reference) if epsilon_baseline > 0 else None,
        flagged=veto.flags(of_copies.trained, nearest, clusters, detector.threshold) if clusters else None,
    )
    audit.draw_and_judge(scored, epsilon_baseline, clusters, below)
    payment.commit()
    return audit.outcome(smallest, sum(event.epsilon for event in events))


def _events(plan: AuditPlan, *, loss: bool, epsilon_baseline: float, votes: bool) -> tuple[PureDP, ...]:
    """What an audit is charged: one event for each mechanism that draws."""
    events = [PureDP(plan.epsilon_copies)]
    if loss:
        events.append(PureDP(plan.epsilon_membership))
    if epsilon_baseline > 0:
        events.append(PureDP(epsilon_baseline))
    if votes:
        events.append(PureDP(_veto_of(plan).epsilon))
    return tuple(events)


def _veto_of(plan: AuditPlan) -> VetoPlan:
    if plan.veto is None:
        raise InputError("the plan has no veto", remedy="audit without clusters")
    return plan.veto


def _require_grid(candidates: Pictures, size: int) -> None:
    first = candidates[:1]
    if first.ndim != 3 or len(first) == 0:
        raise InputError("there is no synthetic image to audit", remedy="name a folder with images")
    if first.shape[1:] != (size, size):
        raise InputError("the candidates are not on the audit's grid", remedy="bring them to one size")


def _opened(open_patients: Callable[[], Audited], size: int) -> Audited:
    patients = open_patients()
    everybody = ImagesOf(patients.trained, patients.held_out)
    if any(images.ndim != 3 or images.shape[1:] != (size, size) for images in everybody):
        raise InputError("patients and candidates are not on the same grid", remedy="bring both to one size")
    return patients


def _score_copies(
    detector: copies.CopyDetector,
    candidates: Pictures,
    patients: Audited,
    device: torch.device,
    told: Callable[[int, int], None] | None,
) -> tuple[_Scores, NDArray[np.int64]]:
    """Best copy score of every patient, and which candidate has it for each trained patient."""
    everybody = ImagesOf(patients.trained, patients.held_out)
    found, count = copies.patient_nearest(candidates, everybody, device, detector.looks, told), len(patients.trained)
    return _Scores(found.scores[:count], found.scores[count:], detector.bins), found.candidate[:count]


def _score_losses(attack: LossAttack, patients: Audited, reference: NDArray[np.float32]) -> _Scores:
    """Scores of all patients by the loss attack, and coarse bins around those of public phantoms."""
    size = reference.shape[1]
    public = attack.reference(reference[:_LOSS_REFERENCE])
    of_public, of_trained, of_held_out = (
        membership.loss_scores(group, attack.losses, size) for group in (public, patients.trained, patients.held_out)
    )
    return _Scores(of_trained, of_held_out, membership.rough_bins(of_public))


def _score_blindly(patients: Audited, reference: NDArray[np.float32]) -> _Scores:
    """Scores of all patients by the blind baseline, and coarse bins around those of public phantoms."""
    of_trained, of_held_out = (
        membership.blind_scores(ImagesOf(group)) for group in (patients.trained, patients.held_out)
    )
    public = membership.blind_scores([image[None] for image in reference])
    return _Scores(of_trained, of_held_out, membership.rough_bins(public))
