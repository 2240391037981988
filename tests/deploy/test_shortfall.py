"""Errors of actions: who, why, and what to do now; each remedy once, and no "run again" where it changes nothing."""

import pytest
from tests.deploy.in_process import STUDY, World

from sonoshare_deploy.coordinator import _failure
from sonoshare_server.federation import rounds
from sonoshare_server.federation.control import RunStatus
from sonoshare_server.federation.shortfall import MEND, RULES, SILENCE
from sonoshare_server.queue.actions import Action
from sonoshare_shared.errors import FederationError


def test_a_plan_that_a_policy_refuses_names_who_and_why_and_is_not_to_be_resumed(world: World) -> None:
    path = world.nodes["north"].home.policy_path
    path.write_text(path.read_text().replace("maximum_draws = 64", "maximum_draws = 1"))
    with pytest.raises(FederationError) as found:
        rounds.train(world.coordinator())
    error = found.value
    assert error.message == (
        "round 1 has 1 of 2 answers it needs (north: the plan wants 2 draws; the policy permits 1 (ask for less, or "
        "raise training.maximum_draws))"
    )
    assert error.remedy == RULES
    assert "resume" not in str(error)


def test_silence_and_other_refusals_are_to_be_mended_and_asked_again(world: World) -> None:
    world.fleet.lost = {"south"}
    with pytest.raises(FederationError, match=r"round 1 has 0 of 2 .*; south: no answer") as silent:
        rounds.train(world.coordinator())
    assert silent.value.remedy == SILENCE  # north lacks the view of a silent hospital, and nothing is to be mended
    world.fleet.lost = set()
    rules = world.nodes["north"].home.policy_path
    rules.write_text("no rules")
    with pytest.raises(FederationError, match=r"north: policy\.toml is not TOML") as broken:
        rounds.train(world.coordinator())
    assert broken.value.remedy == MEND


def test_the_line_of_a_command_holds_the_remedy_once(world: World) -> None:
    asked = Action("train")
    error = FederationError("round 1 has 1 of 2 answers it needs (south: no answer within 60 s)", remedy=SILENCE)
    world.home.study(STUDY, asked.run).event("failed", action="train", reason=error.message, remedy=error.remedy)
    line = str(_failure(world.study, asked, RunStatus(finished=True, succeeded=False, details="")))
    assert line == f"train failed: {error.message} ({SILENCE})"
    assert line.count(SILENCE) == 1
