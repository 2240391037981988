"""Three verdicts, from noisy figures and public constants only."""

import pytest

from sonoshare_privacy.audits import gate
from sonoshare_privacy.audits.gate import Cohort, DetectorRates, Finding
from sonoshare_privacy.mechanisms.histograms import NoisyHistogram, PublicBins, SplitHistogram
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import AuditPlan

PLAN = AuditPlan(
    held_out_fraction=0.3, epsilon_copies=0.5, epsilon_membership=0.5, tolerated_share=0.1, tolerated_auc=0.7
)
COHORT = Cohort(150, 64)
RATES = DetectorRates(recall=0.75, false_rate=0.003)
EDGES = PublicBins((0.4, 0.5, 0.6, 0.7))


def histogram(
    trained: tuple[int, int, int, int, int], held_out: tuple[int, int, int, int, int], epsilon: float = 0.5
) -> SplitHistogram:
    return SplitHistogram(EDGES, NoisyHistogram(trained, epsilon), NoisyHistogram(held_out, epsilon))


def judge_copies(
    trained: tuple[int, int, int, int, int], held_out: tuple[int, int, int, int, int] = (16, 16, 16, 16, 0)
) -> Finding:
    test = gate.copy_test(PLAN, COHORT, RATES)
    return gate.judge_copies(test, gate.tolerated_patients(PLAN, COHORT), histogram(trained, held_out), COHORT.held_out)


def test_no_copies_pass_and_say_what_could_have_been_seen() -> None:
    finding = judge_copies((40, 38, 36, 36, 0))
    assert finding.verdict == "PASS"
    assert "could have seen 10 of 150" in finding.reasons[0]
    assert "saw none" in finding.reasons[0]
    assert "tolerated fewer than 15" in finding.reasons[0]


def test_copies_fail() -> None:
    finding = judge_copies((30, 30, 30, 30, 30))
    assert finding.verdict == "FAIL"
    assert "saw about 39" in finding.reasons[0] or "saw about 40" in finding.reasons[0]


def test_copies_of_held_out_patients_make_the_detector_doubtful() -> None:
    finding = judge_copies((30, 30, 30, 30, 30), (10, 10, 10, 10, 24))
    assert finding.verdict == "INCONCLUSIVE"
    assert "held-out patients are flagged" in finding.reasons[-1]


def test_a_cohort_far_below_its_nominal_size_cannot_pass() -> None:
    finding = judge_copies((8, 8, 7, 7, 0))
    assert finding.verdict == "INCONCLUSIVE"
    assert "well below the nominal 150" in finding.reasons[-1]


def test_case_65_an_audit_that_cannot_see_is_inconclusive_before_it_is_paid() -> None:
    for cohort in (Cohort(20, 8), Cohort(50, 21)):
        blind = gate.foresee(PLAN, cohort, RATES)
        assert blind is not None
        assert blind.verdict == "INCONCLUSIVE"
        assert "nothing charged" in blind.reasons[-1]
    assert gate.foresee(PLAN, COHORT, RATES) is None
    assert gate.foresee(PLAN, COHORT, RATES, membership_epsilon=0.4) is None
    assert gate.foresee(PLAN, Cohort(150, 5), RATES, membership_epsilon=0.4) is not None


def test_foresight_needs_public_constants_only() -> None:
    """Same plan, cohort and rates: same answer; no data argument exists."""
    assert gate.foresee(PLAN, Cohort(20, 8), RATES) == gate.foresee(PLAN, Cohort(20, 8), RATES)


def test_auc_verdicts() -> None:
    even, cohort = (40, 38, 37, 35, 0), COHORT
    clean, interval = gate.judge_auc("membership", histogram(even, (16, 16, 16, 16, 0), 1.0), PLAN, cohort)
    assert clean.verdict == "PASS"
    assert interval.upper < 0.7
    leaking, interval = gate.judge_auc(
        "membership", histogram((0, 2, 8, 60, 80), (30, 20, 10, 4, 0), 1.0), PLAN, cohort
    )
    assert leaking.verdict == "FAIL"
    assert interval.lower >= 0.7
    crowded, _ = gate.judge_auc("membership", histogram((0, 150, 0, 0, 0), (0, 64, 0, 0, 0), 1.0), PLAN, cohort)
    assert crowded.verdict == "INCONCLUSIVE"
    assert "nearly all patients fell in one bin" in crowded.reasons[-1]


def test_combination_never_passes_by_default() -> None:
    passed, failed, open_ = (Finding(v, (v,)) for v in ("PASS", "FAIL", "INCONCLUSIVE"))
    assert gate.combine([passed, passed]).verdict == "PASS"
    assert gate.combine([passed, open_]).verdict == "INCONCLUSIVE"
    assert gate.combine([open_, failed, passed]).verdict == "FAIL"
    with pytest.raises(InputError):
        gate.combine([])


def test_nominal_held_out_follows_from_the_public_fraction() -> None:
    assert Cohort.nominal(150, 0.25) == Cohort(150, 50)
    assert Cohort.nominal(70, 0.3) == Cohort(70, 30)
    assert Cohort.nominal(1, 0.1).held_out == 1


def test_tolerated_patients_are_whole_and_at_least_one() -> None:
    assert gate.tolerated_patients(PLAN, COHORT) == 15
    assert gate.tolerated_patients(PLAN, Cohort(151, 1)) == 16
    assert gate.tolerated_patients(PLAN, Cohort(3, 1)) == 1
