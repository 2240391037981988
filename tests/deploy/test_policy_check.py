"""``hospital policy check``: a hospital settles for itself, with its own true counts, whether it fits a study."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.deploy.in_process import World, patients_of
from tests.deploy.neighbours import one_of_every_kind

from sonoshare_client.node.policy import CohortRules, Policy
from sonoshare_client.node.policy_file import policy_text
from sonoshare_client.own_eyes.fit import VaultState
from sonoshare_client.vault.store import Vault
from sonoshare_deploy.cli.main import cli
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_shared.errors import RefusedError
from sonoshare_shared.protocol.documents.charge import PureDP


@pytest.fixture
def check(world: World, tmp_path: Path) -> Callable[..., Any]:
    """Runs the command on a plan, and returns its result and whether it refused."""

    def run(**changes: Any) -> tuple[Any, RefusedError]:
        path = tmp_path / "plan.json"
        path.write_bytes(world.study.plan.model_copy(update=changes).canonical())
        arguments = ["hospital", "policy", "check", str(path), "--home", str(world.nodes["north"].home.path)]
        done = CliRunner().invoke(cli, [*arguments, "--json"])
        assert CliRunner().invoke(cli, arguments).exit_code == done.exit_code
        assert done.exception is None or isinstance(done.exception, RefusedError), done.exception
        return json.loads(done.output.splitlines()[-1]), done.exception

    return run


def change_rules(world: World, section: str, **changes: Any) -> None:
    home = world.nodes["north"].home
    rules = home.policy()
    part = getattr(rules, section).model_copy(update=changes)
    home.policy_path.write_text(policy_text(rules.model_copy(update={section: part})))


def test_a_vault_that_fits_is_counted_as_the_agent_would_read_it(world: World, check: Callable[..., Any]) -> None:
    result, refused = check()
    assert refused is None
    assert result["fits"]
    patients = patients_of(world, "north", 32)
    assert (result["trained"], result["held_out"]) == (len(patients.trained), len(patients.held_out))
    assert sum(result["classes"].values()) == result["trained"] + result["held_out"]
    assert 0 < result["epsilon_with_audits"] <= result["epsilon_after"] + 1e-6 <= 80.0
    assert result["epsilon_left"] == pytest.approx(80.0 - result["epsilon_after"])
    with Vault(world.nodes["north"].home) as vault:
        assert vault._db.execute("SELECT count(*) FROM enrolment").fetchone() == (0,)


def test_strange_classes_damage_twins_and_pictures_never_compared_are_named_with_what_to_do(
    world: World, check: Callable[..., Any]
) -> None:
    before, _ = check()
    one_of_every_kind(world.nodes["north"].home)
    result, refused = check()
    assert refused is None
    assert result["left_out"] == {"class 'cyst' is not of the task": 2, "an image cannot be used": 1}
    state = result["state"]
    assert (state["pairs"], state["held_back"], state["uncompared"]) == (1, 2, 2)
    assert any("2 patients take no part: class 'cyst'" in line for line in result["advice"])
    assert any("run 'sonoshare hospital twins'" in line for line in result["advice"])
    # The twin of somebody already there: both wait.
    counts = [one["trained"] + one["held_out"] for one in (before, result)]
    assert counts[0] - counts[1] == 1


@pytest.mark.parametrize(
    ("section", "rules", "words"),
    [
        ("cohort", {"minimum_trained": 1000}, "trained patients; cohort.minimum_trained asks for 1000"),
        ("cohort", {"minimum_held_out": 1000}, "held-out patients; cohort.minimum_held_out asks for 1000"),
        ("federation", {"reply_slot_seconds": 3600.0}, "this node answers after 3600 s at the earliest: lower"),
    ],
)
def test_a_reason_not_to_join_is_named_and_exits_1(
    world: World, check: Callable[..., Any], section: str, rules: dict[str, int] | dict[str, float], words: str
) -> None:
    change_rules(world, section, **rules)
    result, refused = check()
    assert words in refused.message
    assert not result["fits"]
    assert result["permitted"]


def test_what_is_left_of_the_lifetime_budget_is_held_against_the_whole_plan(
    world: World, check: Callable[..., Any]
) -> None:
    world.nodes["north"].ledger.reserve(ChargeRequest("earlier", "something", (PureDP(39.0),), 3e-3, 30))
    fresh, refused = check()
    assert refused is None
    assert fresh["epsilon_after"] > 39.0
    change_rules(world, "budget", lifetime_epsilon=50.0)
    result, refused = check()
    assert "lifetime epsilon" in refused.message
    assert result["epsilon_left"] < 0
    # A study that was charged already counts once: the larger of its charges and its plan.
    change_rules(world, "budget", lifetime_epsilon=80.0)
    world.nodes["north"].ledger.reserve(
        ChargeRequest(world.study.plan.study, "training round 1", (PureDP(0.5),), 3e-3, 30)
    )
    assert check()[0]["epsilon_after"] == pytest.approx(fresh["epsilon_after"])


def test_how_many_of_the_planned_candidates_the_ledger_allows_is_said(world: World, check: Callable[..., Any]) -> None:
    audit = world.study.plan.audit.model_copy(update={"epsilon_copies": 2.0, "epsilon_membership": 2.0})
    fits, refused = check(audit=audit, candidates=3)
    assert refused is None
    assert (fits["candidates"], fits["candidates_allowed"], fits["epsilon_charged"]) == (3, 3, 0.0)
    one, two = (check(audit=audit, candidates=number)[0]["epsilon_after"] for number in (1, 2))
    world.nodes["north"].ledger.reserve(ChargeRequest("earlier", "something", (PureDP(30.0),), 3e-3, 30))
    change_rules(world, "budget", lifetime_epsilon=30.0 + (one + two) / 2)
    result, refused = check(audit=audit, candidates=3)
    assert result["candidates_allowed"] == 1
    assert "it would fit with 1 of its 3 candidates: ask for that" in refused.message
    # What this very study was charged beyond its own budget leaves nothing, whatever the plan asks for.
    change_rules(world, "budget", lifetime_epsilon=99.0)
    world.nodes["north"].ledger.reserve(
        ChargeRequest(world.study.plan.study, "training round 1", (PureDP(38.0),), 3e-3, 30)
    )
    change_rules(world, "budget", study_epsilon=37.0)
    spent, refused = check(audit=audit, candidates=1)
    assert spent["candidates_allowed"] == -1
    assert spent["epsilon_charged"] == pytest.approx(38.0, abs=0.1)
    assert "was charged in this study before, and its budget is 37" in refused.message


def test_a_class_of_which_nobody_is_here_is_said(world: World, check: Callable[..., Any]) -> None:
    task = world.study.plan.task
    wider = task.model_copy(update={"classes": (*task.classes, "normal"), "phantoms": {}})
    result, refused = check(task=wider)
    assert refused is None
    assert "no patient has class 'normal': nothing is learnt of it here" in result["advice"]


def test_a_delta_that_suits_the_declared_cohort_but_not_the_true_one_is_said() -> None:
    state = VaultState(trained=90, held_out=40, held_back=0, pairs=0, uncompared=0)
    rules = Policy(cohort=CohortRules(nominal=100))
    assert state.advice(rules, 1e-3) == ()
    assert 9e-3 * rules.cohort.nominal < 1
    assert state.advice(rules, 9e-3) == (
        "delta 0.009 is not below 1 / 130, the patients who are really here: ask for a smaller one",
    )
