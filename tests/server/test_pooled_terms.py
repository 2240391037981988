"""Studies with pooled noise as a coordinator asks for them."""

from typing import Any

import pytest

from sonoshare_privacy.accounting import PureDP, epsilon
from sonoshare_privacy.canaries import fewer_in_a_pool
from sonoshare_server.consortium import terms
from sonoshare_server.consortium.studies import StudyTerms, draft_study
from sonoshare_shared.errors import InputError


def asked(**changes: Any) -> StudyTerms:
    values: dict[str, Any] = {"noise": "pooled", "honest": 2, "rounds": 8, "local_steps": 1, "profile": "tiny"}
    audit = terms.audit_policy(1.0, 0.2, 0.8, 0.05)
    cohorts = dict.fromkeys(("east", "north", "south", "west"), 100)
    return terms.study_terms(
        "pooled", terms.DIAGNOSIS, cohorts, audit=audit, epsilon=8.0, delta=1e-3, images=8, **(values | changes)
    )


def test_a_drafted_plan_pools_is_masked_and_costs_what_it_says() -> None:
    plan = draft_study(asked()).plan
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


def test_canaries_of_all_hospitals_disturb_a_sum_no_more_than_those_of_one() -> None:
    assert fewer_in_a_pool(200, 4) == 50
    assert fewer_in_a_pool(72, 4) == 0
