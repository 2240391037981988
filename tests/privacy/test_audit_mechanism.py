"""The canaries' verdict: FAIL with words, INCONCLUSIVE where too little was seen, and never a PASS by default."""

import json

import numpy as np
import pytest

from sonoshare_privacy.audits.gate import Finding, combine, judge_weights
from sonoshare_privacy.audits.mechanism import check_mechanism
from sonoshare_privacy.canaries import AMPLITUDE, CanaryRecord
from sonoshare_shared.protocol.documents.plan import Mechanism

MECHANISM = Mechanism(rate=0.25, noise_multiplier=1.0, clip_norm=0.5, draws=1, delta=1e-5)
PASSED, FAILED = (Finding(verdict, ("why",)) for verdict in ("PASS", "FAIL"))


def record(noise: float = 1.0, steps: int = 24, count: int = 66) -> CanaryRecord:
    random = np.random.default_rng(3)
    coins = random.random(count) < 0.5
    part = (random.random((steps, count)) < MECHANISM.rate) & coins
    scores = AMPLITUDE * part + noise * random.normal(0, 1, (steps, count))
    return CanaryRecord(scores, np.full((steps, count), noise**2), coins, MECHANISM)


def test_a_conforming_training_passes_with_its_figures() -> None:
    check = check_mechanism(record(), planned=66, steps=24)
    assert check.finding.verdict == "PASS"
    assert "66 canaries over 24 of 24 steps" in check.words[0]
    assert check.figures.epsilon_proved <= check.figures.epsilon_claimed
    assert {"coins", "scores"}.isdisjoint(check.figures.model_dump())
    json.dumps(check.figures.model_dump(), allow_nan=False)


def test_case_50_a_training_that_does_not_conform_fails_in_words() -> None:
    check = check_mechanism(record(noise=0.5), planned=66, steps=24)
    assert check.finding.verdict == "FAIL"
    assert any("noise too small" in word for word in check.words)
    assert combine([PASSED, check.finding]).verdict == "FAIL"


@pytest.mark.parametrize("seen", [None, record(steps=1, count=10), record(steps=24, count=1)])
def test_case_65_too_few_canaries_are_inconclusive(seen: CanaryRecord | None) -> None:
    check = check_mechanism(seen, planned=66, steps=24)
    assert check.finding.verdict == "INCONCLUSIVE"
    assert "too little" in check.words[0]


def test_a_plan_without_canaries_says_that_nothing_was_checked() -> None:
    check = check_mechanism(None, planned=0, steps=24)
    assert check.finding is None
    assert "not checked" in check.words[0]


def test_weights_need_all_that_images_need_and_more() -> None:
    assert judge_weights(PASSED, model=True, mechanism=True).verdict == "PASS"
    assert judge_weights(PASSED, model=False, mechanism=True).verdict == "INCONCLUSIVE"
    assert judge_weights(PASSED, model=True, mechanism=False).verdict == "INCONCLUSIVE"
    assert judge_weights(FAILED, model=False, mechanism=False).verdict == "FAIL"
    assert "loss attack" in judge_weights(PASSED, model=False, mechanism=True).reasons[-1]
