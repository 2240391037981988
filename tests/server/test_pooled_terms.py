"""Studies with pooled noise as a coordinator asks for them."""

from typing import Any

import pytest

from sonoshare_privacy.accounting import PureDP, epsilon
from sonoshare_privacy.canaries import fewer_in_a_pool
from sonoshare_server.consortium import terms
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.studies import draft_study, quorum_of
from sonoshare_shared.errors import InputError


def asked(cohorts: tuple[str, ...] = ("east", "north", "south", "west"), **changes: Any) -> terms.StudyTerms:
    values: dict[str, Any] = {"noise": "pooled", "honest": 2, "rounds": 8, "local_steps": 1, "profile": "tiny"}
    audit = audit_policy(1.0, 0.2, 0.8, 0.05)
    nominal = dict.fromkeys(cohorts, 100)
    return terms.StudyTerms(
        study="pooled",
        task=terms.DIAGNOSIS,
        cohorts=nominal,
        audit=audit,
        epsilon=8.0,
        delta=1e-3,
        images=8,
        **(values | changes),
    )


def test_a_drafted_plan_pools_is_masked_and_costs_what_it_says() -> None:
    said: list[tuple[str, int, int]] = []
    plan = draft_study(asked(), told=lambda what, done, total: said.append((what, done, total))).plan
    assert [one for one in said if one[1] == one[2]] == [
        ("working out the noise", 0, 0),
        ("gradients of phantoms", 16, 16),
        ("weighing canaries", 0, 0),
    ]
    assert (plan.pools, plan.honest, plan.masked, plan.local_steps) == (True, 2, True, 1)
    spent = epsilon([plan.charged(plan.steps), *(PureDP(one) for one in plan.epsilons)], 1e-3)
    assert 7.9 < spent <= 8.0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"honest": None}, "go together"),
        ({"noise": "own"}, "go together"),
        ({"local_steps": 2}, "one step in each round"),
        ({"honest": 5}, "quorum is larger"),
    ],
)
def test_what_cannot_be_pooled_is_refused_in_one_line(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        draft_study(asked(**changes))


@pytest.mark.parametrize("noise", [{"noise": "own", "honest": None, "masked": True}, {}])
def test_three_hospitals_make_a_masked_study_without_a_word_of_a_quorum(noise: dict[str, Any]) -> None:
    plan = draft_study(asked(**noise, cohorts=("east", "north", "south"))).plan
    assert (plan.masked, plan.quorum) == (True, 3)


def test_the_usual_quorum_is_one_that_the_plan_accepts() -> None:
    usual = [quorum_of(hospitals) for hospitals in (1, 2, 3, 4, 7, 10)]
    assert usual == [1, 2, 2, 3, 5, 7]
    assert [quorum_of(hospitals, masked=True) for hospitals in (2, 3, 4, 7)] == [2, 3, 3, 5]
    assert quorum_of(7, masked=True, honest=6) == 6


@pytest.mark.parametrize(("cohorts", "quorum"), [(("east", "north"), None), (("east", "north", "south"), 2)])
def test_two_in_a_masked_round_are_refused_by_what_is_wrong(cohorts: tuple[str, ...], quorum: int | None) -> None:
    with pytest.raises(InputError, match="needs a quorum of three"):
        draft_study(asked(noise="own", honest=None, masked=True, cohorts=cohorts, quorum=quorum))


def test_canaries_of_all_hospitals_disturb_a_sum_no_more_than_those_of_one() -> None:
    assert fewer_in_a_pool(200, 4) == 50
    assert fewer_in_a_pool(72, 4) == 0
