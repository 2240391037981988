"""The mechanism check where noise is pooled: of the sums that were released, and of nothing that is one hospital's.

Two witnesses. The sums' small numbers say whether noise is missing, with an exact false-alarm probability and without
canaries (``sonoshare_privacy.sum_check``); too little noise is FAIL. This hospital's canaries in the sums say whether
its own contribution is there, clipped and sampled as stated (``audits.mechanism``). Both are functions of released sums
and of coins that have nothing to do with patients, so they cost nothing.
"""

from dataclasses import replace

from sonoshare_privacy.audits.gate import Finding
from sonoshare_privacy.audits.mechanism import MechanismCheck
from sonoshare_privacy.sum_check import SumCheck


def with_sums(check: MechanismCheck, sums: SumCheck | None, *, honest: int) -> MechanismCheck:
    """What the canaries and the sums say together.

    Args:
        check: of the canaries in the sums.
        sums: what the sums' small numbers say; None where this hospital was shown none.
        honest: on how many hospitals the plan's noise rests.
    """
    if sums is None:
        words = "mechanism: noise is pooled, and this hospital was shown no sum"
        return _joined(check, Finding("INCONCLUSIVE", (words,)))
    figures = check.figures.model_copy(
        update={"sum_noise": sums.noise, "sum_noise_smallest": sums.smallest, "sum_numbers": sums.numbers}
    )
    words = (
        f"mechanism: noise of the sums at most {sums.noise:.2f} of what {honest} honest hospitals add, by "
        f"{sums.numbers} numbers (below {sums.smallest:.2f} would have been noticed)"
    )
    if sums.enough:
        return _joined(replace(check, figures=figures), Finding("PASS", (words,)))
    wrong = f"mechanism: the sums hold less noise than {honest} honest hospitals add"
    return _joined(replace(check, figures=figures), Finding("FAIL", (wrong, words)))


def _joined(check: MechanismCheck, more: Finding) -> MechanismCheck:
    """Both findings; the worse verdict counts."""
    worst = {"FAIL": 2, "INCONCLUSIVE": 1, "PASS": 0}
    known = [more] if check.finding is None else [check.finding, more]
    verdict = max((finding.verdict for finding in known), key=lambda one: worst[one])
    reasons = (*check.words, *more.reasons)
    return MechanismCheck(Finding(verdict, reasons), reasons, check.figures)
