"""The planner against the figures that were measured for this field, and its command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sonoshare_deploy.cli.plan import command
from sonoshare_privacy.accounting import PureDP, SampledGaussian, epsilon
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_privacy.planner import plan_study
from sonoshare_privacy.plots import draw_ledger, epsilon_over_time
from sonoshare_shared.errors import InputError, PolicyError


@pytest.mark.parametrize(("patients", "ratio"), [(150, 8.5), (600, 2.3)])
def test_noise_to_signal_of_known_cohorts(patients: int, ratio: float) -> None:
    plan = plan_study(patients=patients, epsilon_target=8, delta=0.1 / patients, parameters=28_672)
    assert plan.noise_to_signal == pytest.approx(ratio, rel=0.05)
    assert plan.epsilon <= 8
    assert plan.epsilon == epsilon([SampledGaussian(0.25, plan.noise_multiplier, 200)], plan.delta)


def test_one_small_hospital_trains_tens_of_thousands_and_joining_helps() -> None:
    plan = plan_study(patients=150, epsilon_target=8, delta=0.1 / 150, hospitals=5)
    alone, five = plan.with_more_hospitals[0], plan.with_more_hospitals[3]
    assert 2e4 < alone.trainable_parameters < 5e4
    assert five.hospitals == 5
    assert (
        five.trainable_parameters == plan.trainable_parameters == pytest.approx(5 * alone.trainable_parameters, abs=5)
    )
    assert five.pooled_trainable_parameters == pytest.approx(25 * alone.trainable_parameters, abs=25)
    assert plan.noise_to_signal == five.noise_to_signal < alone.noise_to_signal


def test_audits_are_paid_from_the_same_budget() -> None:
    plan = plan_study(patients=300, epsilon_target=4, delta=1e-4, rate=1.0, steps=50, audits=(0.5, 0.5))
    assert plan.epsilon <= 4
    events: list[SampledGaussian | PureDP] = [SampledGaussian(1.0, plan.noise_multiplier, 50), PureDP(0.5), PureDP(0.5)]
    assert plan.epsilon == epsilon(events, 1e-4)
    assert plan.epsilon_training == plan.epsilon_after(50) < plan.epsilon
    assert plan.epsilon_after(0) == 0


def test_refusals() -> None:
    with pytest.raises(PolicyError, match="not below"):
        plan_study(patients=100, epsilon_target=8, delta=0.01)
    with pytest.raises(InputError, match="use up"):
        plan_study(patients=100, epsilon_target=1, delta=1e-9, audits=(1.0, 1.0))


def test_the_command_prints_the_fields_and_draws(tmp_path: Path) -> None:
    plot = tmp_path / "plan.png"
    numbers = {"patients": 150, "hospitals": 3, "epsilon": 8, "delta": 1e-4, "rate": 1, "steps": 40}
    arguments = [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
    result = CliRunner().invoke(command, [*arguments, "--json", "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    fields = json.loads(result.output.splitlines()[-1])
    wanted = {"noise_multiplier", "epsilon", "delta", "steps", "rate", "noise_to_signal", "trainable_parameters"}
    assert wanted | {"with_more_hospitals"} <= set(fields)
    assert fields["epsilon"] <= 8
    assert plot.read_bytes()[:4] == b"\x89PNG"
    people = CliRunner().invoke(command, arguments)
    assert "Noise multiplier" in people.output


def test_a_ledger_s_epsilon_over_time(open_ledger: Callable[..., Any], tmp_path: Path) -> None:
    ledger = open_ledger()
    for number in range(3):
        ledger.commit(ledger.reserve(ChargeRequest("s", f"round {number}", (SampledGaussian(1, 20.0, 5),), 1e-5, 100)))
    points = epsilon_over_time(ledger.entries(), 1e-5)
    assert len(points) == 3
    assert points[-1][1] == ledger.spent(1e-5).epsilon
    draw_ledger(ledger.entries(), ledger.budgets.lifetime, tmp_path / "ledger.png")
    assert (tmp_path / "ledger.png").stat().st_size > 1000
