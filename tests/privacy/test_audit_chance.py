"""The chance that an honest release passes: against the real gate, and in the directions that it must move."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm

from sonoshare_privacy.audits import gate, membership
from sonoshare_privacy.audits.chance import DECLARED, copies_pass, pass_chances
from sonoshare_privacy.audits.chance_advice import changes_that_reach, wanted_beyond
from sonoshare_privacy.audits.gate import Cohort
from sonoshare_privacy.audits.rates import private_auc, refuted_at
from sonoshare_privacy.mechanisms.histograms import NoisyHistogram, PublicBins, SplitHistogram, draw_split
from sonoshare_shared.protocol.documents import AuditPlan


def audits(**changes: Any) -> AuditPlan:
    values = {"epsilon_copies": 0.5, "epsilon_membership": 0.5, "tolerated_share": 0.1, "tolerated_auc": 0.7}
    return AuditPlan(**{"held_out_fraction": 0.25, **values, **changes})


def seeded(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return lambda n: int(rng.integers(n))


def test_the_exact_chance_of_the_copy_audit_is_that_of_the_real_one() -> None:
    plan, cohort, draws = audits(epsilon_copies=1.0, tolerated_share=0.25), Cohort.nominal(60, 0.25), 1500
    test, tolerated = gate.copy_test(plan, cohort, DECLARED), gate.tolerated_patients(plan, cohort)
    rng, below, passed = np.random.default_rng(1), seeded(1), 0
    bins = PublicBins((-0.7, 0.0, 0.7, 9.0))
    for _ in range(draws):
        groups = []
        for count in (cohort.trained, cohort.held_out):
            scores = rng.standard_normal(count)
            scores[: rng.binomial(count, DECLARED.false_rate)] = 10.0
            groups.append(scores)
        split = draw_split(groups[0], groups[1], bins, plan.epsilon_copies, below)
        passed += gate.judge_copies(test, tolerated, split, cohort.held_out).verdict == "PASS"
    exact = copies_pass(plan, cohort)
    # The right answer falls outside of this interval in one of 10^5 runs; the seed is fixed.
    assert binom.ppf(5e-6, draws, exact) <= passed <= binom.ppf(1 - 5e-6, draws, exact)


def test_the_chance_of_the_whole_gate_is_that_of_the_real_one() -> None:
    plan, cohort, draws = audits(epsilon_membership=0.8), Cohort.nominal(150, 0.25), 400
    rng, below, passed = np.random.default_rng(2), seeded(2), 0
    for _ in range(draws):
        groups = [rng.standard_normal(count) for count in (cohort.trained, cohort.held_out)]
        drawn = membership.draw_attack(
            groups[0], groups[1], PublicBins(membership.ROUGH_EDGES), plan.epsilon_membership, below
        )
        passed += gate.judge_auc("loss", drawn.split, plan, cohort)[0].verdict == "PASS"
    chance = pass_chances(plan, {"north": 150}, 1).together.first / copies_pass(plan, cohort)
    spread = np.sqrt(chance * (1 - chance) / draws)
    assert abs(passed / draws - chance) < float(norm.isf(1e-5)) * spread + 0.02


def split_of(x: Any, y: Any) -> SplitHistogram:
    trained, held_out = (NoisyHistogram(tuple(int(count) for count in row), 0.5) for row in (x, y))
    return SplitHistogram(PublicBins((-1.0, 0.0, 1.0)), trained, held_out)


def test_many_intervals_at_once_are_the_intervals_of_the_gate() -> None:
    rng = np.random.default_rng(3)
    x, y = (rng.integers(-3, size, (300, 4)).astype(float) for size in (40, 15))
    at_once = refuted_at(0.7, x, y, 0.5, 0.05)
    one_by_one = [private_auc(split_of(of_x, of_y), 0.05).upper < 0.7 for of_x, of_y in zip(x, y, strict=True)]
    assert at_once.tolist() == one_by_one
    assert 20 < sum(one_by_one) < 280


def test_a_second_candidate_and_every_other_remedy_raise_the_chance_and_more_hospitals_lower_it() -> None:
    three = {"a": 150, "b": 150, "c": 150}
    one = pass_chances(audits(), three, 1).together.any
    assert one == pytest.approx(0.63, abs=0.05)  # the figure of docs/audits.md
    two = pass_chances(audits(), three, 2).together
    assert two.first == pytest.approx(one, abs=0.05)
    # Worth something, and less than an independent try: the same model's patients are looked at again.
    assert one + 0.1 < two.any < 1 - (1 - two.first) ** 2 + 0.01
    for change in ({"tolerated_share": 0.15, "tolerated_auc": 0.8}, {"epsilon_copies": 1.0, "epsilon_membership": 1.0}):
        assert pass_chances(audits(**change), three, 1).together.any > one + 0.1
    assert pass_chances(audits(), dict.fromkeys(three, 400), 1).together.any > one + 0.1
    assert pass_chances(audits(), {f"h{i}": 150 for i in range(6)}, 1).together.any < one - 0.1
    assert pass_chances(audits(), three, 2) == pass_chances(audits(), three, 2)


def test_an_audit_that_could_not_see_never_passes_and_its_hospital_is_named() -> None:
    chances = pass_chances(audits(), {"large": 300, "small": 40}, 2)
    assert chances.hospitals["small"].any == chances.together.any == 0.0
    assert chances.hospitals["large"].first > 0.9
    assert "of 40 nominal patients could be seen" in chances.blind["small"]
    assert set(chances.blind) == {"small"}


def test_the_cheapest_change_reaches_what_is_wanted_and_costs_least() -> None:
    cohorts = {"a": 150, "b": 150, "c": 150}
    now = pass_chances(audits(), cohorts, 1).together.any
    assert (wanted_beyond(now), wanted_beyond(0.85), wanted_beyond(0.95)) == (0.8, 0.9, None)
    changes = changes_that_reach(0.8, audits(), cohorts, 1)
    paid = [change for change in changes if change.epsilon_audits > 1.0]
    assert [change.epsilon_audits for change in paid] == sorted(change.epsilon_audits for change in paid)
    assert any(change.words == "--candidates 2" and change.epsilon_audits == 2.0 for change in paid)
    assert all(change.together >= 0.8 for change in changes)
    # Where the plan is changed as told, the chance is as told.
    assert pass_chances(audits(), cohorts, 2).together.any == pytest.approx(
        next(change.together for change in changes if change.words == "--candidates 2"), abs=0.06
    )
