"""The mechanism check: did the training that ran conform to the one that was charged?

From the canaries of all rounds (canaries.py): conformance first, then the lower bound on epsilon, which must not
exceed the claim for the same steps. Both are functions of noisy sums that were released anyway and of coins that have
nothing to do with patients, so the finding and its figures cost nothing. Coins and scores are not among them.

Rules: FAIL where the run does not conform, or more epsilon is proved than claimed: the promise was not kept, whatever
is released. INCONCLUSIVE where canaries were planned and too little of them is there to tell. A plan without canaries
has no finding: that nothing was checked is said in words, and passes nothing by itself.
"""

from dataclasses import dataclass
from typing import Final

from sonoshare_privacy.audits.gate import Finding
from sonoshare_privacy.canaries import CanaryRecord, Conformance, claim, conformance, lower_bound
from sonoshare_shared.protocol.documents.figures import MechanismFigures

MUST_SEE: Final = 0.75
"""Noise below this part of the stated one must be noticed, or the check says that it could not tell."""

_FEWEST_ON_A_SIDE: Final = 2


@dataclass(frozen=True)
class MechanismCheck:
    """What the canaries say; all of it may leave.

    Args:
        finding: verdict and reasons; None where the plan has no canaries.
        words: the reasons, also where there is no finding.
        figures: measured and claimed, as they are signed.
    """

    finding: Finding | None
    words: tuple[str, ...]
    figures: MechanismFigures


def check_mechanism(record: CanaryRecord | None, *, planned: int, steps: int) -> MechanismCheck:
    """Judge the canaries of a study.

    Args:
        record: of all rounds (``canaries.joined``); None where nothing was recorded.
        planned: canaries of the plan.
        steps: of this hospital, as charged.
    """
    if planned == 0:
        words = "mechanism: this plan has no canaries, so that the training conforms to it was not checked"
        return MechanismCheck(None, (words,), MechanismFigures(checked=False, canaries=0))
    if record is None or min(record.coins.sum(), (~record.coins).sum()) < _FEWEST_ON_A_SIDE:
        return _too_little(planned, 0, steps, None)
    seen, found = len(record.scores), conformance(record)
    proved, claimed = lower_bound(record), claim(record.mechanism, seen)
    figures = _figures(planned, seen, steps, found, proved=proved, claimed=claimed)
    words = (
        f"mechanism: {planned} canaries over {seen} of {steps} steps: noise {found.noise:.2f} of the stated (below "
        f"{found.smallest_noise:.2f} would have been noticed), rate times contribution {found.rate:.2f} of the stated; "
        f"guessing them proves epsilon {proved:.2f} of the {claimed:.2f} claimed for these steps"
    )
    wrong = [f"mechanism: the training that ran is not the one that was charged: {fault}" for fault in found.faults]
    if proved > claimed:
        wrong.append("mechanism: more epsilon is proved than was charged")
    if wrong:
        return _judged(Finding("FAIL", (*wrong, words)), figures)
    if found.smallest_noise < MUST_SEE:
        return _too_little(planned, seen, steps, found)
    return _judged(Finding("PASS", (words,)), figures)


def _judged(finding: Finding, figures: MechanismFigures) -> MechanismCheck:
    return MechanismCheck(finding, finding.reasons, figures)


def _too_little(planned: int, seen: int, steps: int, found: Conformance | None) -> MechanismCheck:
    words = (
        f"mechanism: {planned} canaries were planned, and {seen} of {steps} steps with them are on record: too little "
        f"to notice noise at {MUST_SEE:g} of the stated"
    )
    return _judged(Finding("INCONCLUSIVE", (words,)), _figures(planned, seen, steps, found))


def _figures(
    planned: int,
    seen: int,
    steps: int,
    found: Conformance | None,
    *,
    proved: float | None = None,
    claimed: float | None = None,
) -> MechanismFigures:
    return MechanismFigures(
        checked=found is not None,
        canaries=planned,
        steps=seen,
        steps_charged=steps,
        faults=None if found is None else found.faults,
        noise=None if found is None else found.noise,
        smallest_noise_seen=None if found is None else found.smallest_noise,
        rate=None if found is None else found.rate,
        epsilon_proved=proved,
        epsilon_claimed=claimed,
    )
