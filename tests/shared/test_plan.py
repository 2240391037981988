"""Plans that could not be drawn are refused when they are made, not when images are due."""

from typing import Any

import pytest
from pydantic import ValidationError
from tests.shared.consortium import make_plan

from sonoshare_shared.protocol.documents import ReleasePlan, StudyPlan
from sonoshare_shared.protocol.documents.charge import PooledGaussian, SampledGaussian


def test_a_plan_has_no_more_steps_than_its_start_time_holds() -> None:
    assert ReleasePlan(images=2, sampler_steps=8, start="phantom", start_time=8).start_time == 8
    assert ReleasePlan(images=2, sampler_steps=500, start="noise").sampler_steps == 500
    with pytest.raises(ValidationError, match="more sampler steps than the start time holds"):
        ReleasePlan(images=2, sampler_steps=9, start="phantom", start_time=8)
    with pytest.raises(ValidationError, match="start_time"):
        ReleasePlan(images=2, sampler_steps=9, start="phantom", start_time=991)


def plan(**changes: Any) -> StudyPlan:
    return StudyPlan.model_validate(make_plan().model_dump() | changes)


def test_a_plan_that_trains_all_times_has_the_bytes_that_it_always_had() -> None:
    usual = plan()
    assert b"latest_time" not in usual.canonical()
    assert usual.last_time == 999
    early = plan(latest_time=150)
    assert early.last_time == 150
    assert StudyPlan.from_bytes(early.canonical()) == early


def test_a_release_is_drawn_from_times_that_are_trained() -> None:
    refined = {"images": 2, "sampler_steps": 8, "start": "phantom", "start_time": 250}
    assert plan(release=refined, latest_time=250).release.first_time == 250
    with pytest.raises(ValidationError, match="later times than are trained"):
        plan(release=refined, latest_time=249)
    noise = {"images": 2, "sampler_steps": 8, "start": "noise"}
    assert plan(release=noise, latest_time=990).release.first_time == 990
    with pytest.raises(ValidationError, match="later times than are trained"):
        plan(release=noise, latest_time=989)


def test_a_plan_with_own_noise_has_the_bytes_that_it_always_had() -> None:
    assert b'noise"' not in plan().canonical()
    assert b"honest" not in plan().canonical()
    assert plan().charged(3) == SampledGaussian(plan().mechanism.rate, plan().mechanism.noise_multiplier, 3)


def test_pooled_noise_takes_one_step_a_round_and_says_what_it_rests_on() -> None:
    pooled = {"noise": "pooled", "honest": 2, "local_steps": 1, "masked": True, "quorum": 3}
    whole = plan(**pooled)
    assert StudyPlan.from_bytes(whole.canonical()) == whole
    assert whole.charged(3) == PooledGaussian(whole.mechanism.rate, whole.mechanism.noise_multiplier, 3, 2)
    for wrong, why in (
        ({"honest": None}, "needs the number of honest hospitals"),
        ({"noise": None}, "where the noise is pooled"),
        ({"noise": "own"}, "where the noise is pooled"),
        ({"local_steps": 2}, "one step in each round"),
        ({"masked": None}, "needs masked sums"),
        ({"honest": 1}, "greater than or equal to 2"),
        ({"honest": 4}, "quorum must be at least"),
    ):
        with pytest.raises(ValidationError, match=why):
            plan(**(pooled | wrong))
