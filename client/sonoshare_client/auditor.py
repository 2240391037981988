"""The auditor: asks of a candidate set what this hospital's patients would want asked, privately.

One implementation for the federation (model at hand, charges in the hospital's ledger) and for the stand-alone
``sonoshare audit`` (a folder of images of any generator). The mathematics is ``sonoshare_privacy.audits``.

Order, visibly: check, calibrate on public images, foresee (an audit that could not see ends here and costs
nothing), score the patients, *reserve the charge*, draw the noise once, judge, *commit*, and only then return
figures. A failure before the reserve charges nothing; a failure after it leaves the charge standing.

What an outcome reveals: noisy histograms (charged), and functions of them, of the candidate set and of public
constants. The true number of patients, of images, any score, any name of a patient or image: never. Neighbouring
relation: add or remove one patient with all of their images; trained and held-out patients are disjoint.

Does not promise: constant running time (it grows with the number of images and stays inside the hospital).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_privacy.audits import copies, gate, membership
from sonoshare_privacy.audits.gate import Cohort, Finding
from sonoshare_privacy.audits.geometric import SYSTEM_RANDOM, RandomBelow
from sonoshare_privacy.audits.histograms import PublicBins, SplitHistogram, draw_split
from sonoshare_privacy.audits.rates import Interval, private_rate
from sonoshare_privacy.budget import ChargeRequest, Reservation
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.documents import AuditPlan
from sonoshare_shared.documents.charge import PureDP
from sonoshare_shared.documents.statement import Verdict
from sonoshare_shared.errors import InputError, PolicyError

AUDIT_PURPOSE: Final = "audit of candidate"
"""How the purpose of every audit's charge begins; charges are counted by it."""

_LOSS_REFERENCE: Final = 32
"""Phantoms whose losses place the coarse bins of the loss attack."""


class PatientImages(Protocol):
    """What the auditor needs of a patient."""

    @property
    def images(self) -> NDArray[np.float32]:
        """Float32 [k, S, S] in 0..1, k >= 1."""


class LossAttack(Protocol):
    """The model that the candidates were drawn from, as the loss attack meets it."""

    def losses(self, patient: Any, times: NDArray[np.int64], noise: NDArray[np.float32]) -> NDArray[np.float64]:
        """Denoising loss of each image and draw, [images, D]; times [D], noise [D, S, S]."""

    def reference(self, images: NDArray[np.float32]) -> Sequence[Any]:
        """Public images as patients of one image each."""


class Payment(Protocol):
    """Where an audit is charged: reserved before the first noisy number, committed before it is returned."""

    def reserve(self, events: tuple[PureDP, ...]) -> None:
        """Make the charge durable."""

    def commit(self) -> None:
        """Record that the figures are released."""


class LedgerPayment:
    """Charges an audit to the hospital's ledger.

    Args:
        ledger: the hospital's ledger.
        study: study that is charged.
        candidate: digest of the candidate (named in the purpose).
        delta: at which the study states epsilon (the audits themselves are pure).
        nominal: nominal cohort.
        max_candidates: how many candidates of the study may be audited at all; None leaves it to the budget.
    """

    def __init__(
        self, ledger: Ledger, *, study: str, candidate: str, delta: float, nominal: int, max_candidates: int | None
    ) -> None:
        self._ledger, self._study, self._max = ledger, study, max_candidates
        self._purpose = f"{AUDIT_PURPOSE} {candidate}"
        self._delta, self._nominal = delta, nominal
        self._reservation: Reservation | None = None

    def reserve(self, events: tuple[PureDP, ...]) -> None:
        """Reserve.

        Raises:
            PolicyError: as many candidates of this study as the plan allows were audited before.
            BudgetError: the budget does not allow it; nothing was charged.
        """
        earlier = sum(
            signed.charge.kind == "reserved"
            and signed.charge.study == self._study
            and signed.charge.purpose.startswith(AUDIT_PURPOSE)
            for signed in self._ledger.entries()
        )
        if self._max is not None and earlier >= self._max:
            raise PolicyError(
                f"{earlier} audits of this study were charged; the plan allows {self._max}",
                remedy="every audit pays again: a new study plan must allow more",
            )
        request = ChargeRequest(self._study, self._purpose, events, self._delta, self._nominal)
        self._reservation = self._ledger.reserve(request)

    def commit(self) -> None:
        """Commit the reservation."""
        if self._reservation is None:
            raise PolicyError("an audit's charge is committed only after it was reserved")
        self._ledger.commit(self._reservation)


class NoLedger:
    """For the stand-alone audit, which has no ledger: the charge is stated in the outcome only."""

    def reserve(self, events: tuple[PureDP, ...]) -> None:
        """Nothing to make durable."""

    def commit(self) -> None:
        """Nothing to record."""


@dataclass(frozen=True)
class AuditOutcome:
    """What leaves the hospital.

    Args:
        verdict: PASS, FAIL or INCONCLUSIVE.
        figures: private figures with intervals, JSON-able.
        reasons: the verdict in words.
        smallest_detectable_leak: copied patients that would have been seen with probability 0.8; None if not even all.
        epsilon: what was charged (pure), 0 where the audit could not have seen anything.
    """

    verdict: Verdict
    figures: Mapping[str, Any]
    reasons: tuple[str, ...]
    smallest_detectable_leak: int | None
    epsilon: float


@dataclass(frozen=True)
class _Scores:
    """True scores, one per patient (they stay here), and the public bins they will be counted in."""

    trained: NDArray[np.float64]
    held_out: NDArray[np.float64]
    bins: PublicBins


@dataclass(frozen=True)
class _Scored:
    """Scores of all attacks that are run."""

    copies: _Scores
    loss: _Scores | None
    blind: _Scores | None


@dataclass
class _Audit:
    """One run: public constants, and what has been judged so far."""

    plan: AuditPlan
    cohort: Cohort
    detector: copies.CopyDetector
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def draw_and_judge(self, scored: _Scored, epsilon_baseline: float, below: RandomBelow) -> None:
        """Draw every noisy histogram once and judge it; the charge is durable by now."""
        of, plan = scored.copies, self.plan
        split = draw_split(of.trained, of.held_out, of.bins, plan.epsilon_copies, below)
        self.judge_copies(split)
        distrust = self.judge_baseline(scored.blind, epsilon_baseline, below)
        self.judge_membership("released images", split, decides=scored.loss is None, distrust=distrust)
        if scored.loss is not None:
            of = scored.loss
            drawn = membership.draw_attack(of.trained, of.held_out, of.bins, plan.epsilon_membership, below)
            self.judge_membership("denoising loss", drawn.split, decides=True, distrust=distrust)
            self.figures["membership"]["rough_look"] = _counts(drawn)
        self.figures["membership"] |= _strict_rate(split, plan.alpha)

    def judge_baseline(self, blind: _Scores | None, epsilon: float, below: RandomBelow) -> Finding | None:
        """Draw the blind baseline, if it is run; a finding means that no membership figure can be believed."""
        if blind is None:
            return None
        drawn = membership.draw_attack(blind.trained, blind.held_out, blind.bins, epsilon, below)
        finding, auc = gate.judge_baseline(drawn.split)
        self.figures["blind_baseline"] = {
            **_interval(auc),
            "histograms": _histograms(drawn.split),
            "rough_look": _counts(drawn),
        }
        return finding

    def judge_copies(self, split: SplitHistogram) -> None:
        """Judge the copy counts."""
        test = gate.copy_test(self.plan, self.cohort, self.detector.rates)
        tolerated = gate.tolerated_patients(self.plan, self.cohort)
        self.findings.append(gate.judge_copies(test, tolerated, split, self.cohort.held_out))
        count = split.trained.counts[-1]
        interval = [test.lower_bound(count) / test.patients, test.upper_bound(count) / test.patients]
        self.figures["copies"] |= {
            "patients_flagged": test.estimate(count),
            "rate": test.estimate(count) / test.patients,
            "interval": interval,
            "noisy_count": count,
            "histograms": _histograms(split),
        }

    def judge_membership(self, name: str, split: SplitHistogram, *, decides: bool, distrust: Finding | None) -> None:
        """Judge one membership attack; ``distrust`` takes the place of its finding."""
        finding, auc = gate.judge_auc(f"membership ({name})", split, self.plan, self.cohort)
        finding = distrust or finding
        if decides or finding.verdict == "FAIL":
            self.findings.append(finding)
        place = self.figures.setdefault("membership" if decides else "images_attack", {})
        place |= {
            "attack": name,
            **_interval(auc),
            "histograms": _histograms(split),
        }


def audit_release(
    candidates: NDArray[np.float32],
    trained: Sequence[PatientImages],
    held_out: Sequence[PatientImages],
    *,
    plan: AuditPlan,
    cohort: Cohort,
    payment: Payment,
    attack: LossAttack | None = None,
    epsilon_baseline: float = 0.0,
    below: RandomBelow = SYSTEM_RANDOM,
    device: str | None = None,
) -> AuditOutcome:
    """Audit a candidate set on this hospital's patients.

    Args:
        candidates: float32 [n, S, S] in 0..1, n >= 1.
        trained: patients that may have been trained on.
        held_out: patients that were not; none of them is in ``trained``.
        plan: thresholds and budgets. Without ``attack`` nothing of ``epsilon_membership`` is spent.
        cohort: nominal (public) numbers of patients.
        payment: where the charge is made durable.
        attack: the model that the candidates were drawn from; None audits images of an unknown generator.
        epsilon_baseline: budget of the blind baseline, for lists that were not split at random by construction; 0
            leaves it out.
        below: source of the noise.
        device: torch device of the copy search; None takes a GPU where there is one.

    Returns:
        The outcome. An audit that could not have seen a tolerated leak is INCONCLUSIVE and charged nothing.

    Raises:
        InputError: the candidates or patients are not square grey images of one size.
        BudgetError: the budget does not allow the charge; nothing was released.
        PolicyError: the plan's number of audits is used up.
    """
    size = _common_size(candidates, [*trained, *held_out])
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    reference = copies.reference_images(size)
    detector = copies.calibrate(candidates, reference, device)
    epsilon_fine = membership.fine_epsilon(plan.epsilon_membership) if attack else None
    audit = _Audit(plan, cohort, detector, figures=_public_figures(plan, cohort, detector))
    smallest = gate.copy_test(plan, cohort, detector.rates).smallest_detectable()
    blind = gate.foresee(plan, cohort, detector.rates, membership_epsilon=epsilon_fine)
    if blind is not None:
        return AuditOutcome(blind.verdict, audit.figures, blind.reasons, smallest, 0.0)

    in_copies, out_copies = (
        copies.patient_scores(candidates, [one.images for one in group], device) for group in (trained, held_out)
    )
    scored = _Scored(
        copies=_Scores(in_copies, out_copies, detector.bins),
        loss=_score_losses(attack, trained, held_out, reference) if attack else None,
        blind=_score_blindly(trained, held_out, reference) if epsilon_baseline > 0 else None,
    )

    events = [PureDP(plan.epsilon_copies)]
    if attack is not None:
        events.append(PureDP(plan.epsilon_membership))
    if epsilon_baseline > 0:
        events.append(PureDP(epsilon_baseline))
    payment.reserve(tuple(events))
    audit.draw_and_judge(scored, epsilon_baseline, below)
    payment.commit()

    verdict = gate.combine(audit.findings)
    return AuditOutcome(
        verdict.verdict, audit.figures, verdict.reasons, smallest, sum(event.epsilon for event in events)
    )


def _common_size(candidates: NDArray[np.float32], patients: Sequence[PatientImages]) -> int:
    if candidates.ndim != 3 or len(candidates) == 0:
        raise InputError("there is no synthetic image to audit", remedy="name a folder with images")
    size = int(candidates.shape[1])
    if any(one.images.ndim != 3 or one.images.shape[1:] != (size, size) for one in patients):
        raise InputError("patients and candidates are not on the same grid", remedy="bring both to one size")
    return size


def _score_losses(
    attack: LossAttack,
    trained: Sequence[PatientImages],
    held_out: Sequence[PatientImages],
    reference: NDArray[np.float32],
) -> _Scores:
    """Scores of all patients by the loss attack, and coarse bins around those of public phantoms."""
    size = reference.shape[1]
    public = attack.reference(reference[:_LOSS_REFERENCE])
    of_public, of_trained, of_held_out = (
        membership.loss_scores(group, attack.losses, size) for group in (public, trained, held_out)
    )
    return _Scores(of_trained, of_held_out, membership.rough_bins(of_public))


def _score_blindly(
    trained: Sequence[PatientImages], held_out: Sequence[PatientImages], reference: NDArray[np.float32]
) -> _Scores:
    """Scores of all patients by the blind baseline, and coarse bins around those of public phantoms."""
    of_trained, of_held_out = (membership.blind_scores([one.images for one in group]) for group in (trained, held_out))
    public = membership.blind_scores([image[None] for image in reference])
    return _Scores(of_trained, of_held_out, membership.rough_bins(public))


def _public_figures(plan: AuditPlan, cohort: Cohort, detector: copies.CopyDetector) -> dict[str, Any]:
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


def _strict_rate(split: SplitHistogram, alpha: float) -> dict[str, Any]:
    """True-positive rate of the images attack at the copy threshold, whose declared false rate is below 1 %."""
    rate = private_rate(split.trained, alpha)
    return {"tpr_at_1_fpr": rate.estimate, "tpr_interval": [rate.lower, rate.upper], "tpr_clamped": rate.clamped}


def _interval(of: Interval) -> dict[str, Any]:
    return {"auc": of.estimate, "interval": [of.lower, of.upper], "clamped": of.clamped}


def _histograms(split: SplitHistogram) -> dict[str, Any]:
    return {
        "edges": list(split.bins.edges),
        "trained": list(split.trained.counts),
        "held_out": list(split.held_out.counts),
        "epsilon": split.epsilon,
    }


def _counts(drawn: membership.AttackDraw) -> dict[str, Any]:
    return {"edges": list(drawn.rough_bins.edges), "counts": list(drawn.rough.counts), "epsilon": drawn.rough.epsilon}
