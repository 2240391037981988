"""``sonoshare hospital policy``: the rules in force, and a study plan held against rules, budget and vault."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sonoshare_deploy.cli.order import InOrder
from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.parameters import node_home_option

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_client.own_eyes.fit import Fit


@click.group(cls=InOrder)
def policy() -> None:
    """Show the hospital's rules, or hold a study plan against them."""


@policy.command("show")
@node_home_option
@json_option
def show_policy(home_path: Path, *, as_json: bool) -> None:
    """Check policy.toml and print the rules in force.

    Example: sonoshare hospital policy show --home NODE
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below

    rules = NodeHome.open(home_path).policy()
    values = rules.model_dump(mode="json")

    def human(console: "Console") -> None:
        for section, entries in values.items():
            console.print(f"[{section}]", markup=False, highlight=False)
            for name, value in entries.items():
                console.print(f"  {name} = {value}", markup=False, highlight=False)

    emit({**values, "digest": rules.digest()}, as_json, human)


@policy.command("check")
@click.argument("plan_file", type=click.Path(path_type=Path, dir_okay=False))
@node_home_option
@json_option
def check_policy(plan_file: Path, home_path: Path, *, as_json: bool) -> None:
    """Hold the study plan in PLAN_FILE against the rules, the budget that is left, and the vault.

    Exit 1 where the plan breaks a rule, or the vault or the budget does not fit it. For the hospital's own eyes: it
    prints true counts. The running node asks none of this, because every refusal by a count would tell it; so where
    the answer is no, do not join.

    Example: sonoshare hospital policy check plan.dsse.json --home NODE
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.node.plan_check import check_plan, read_plan, training_epsilon  # noqa: PLC0415
    from sonoshare_client.node.pooled_policy import epsilon_alone  # noqa: PLC0415
    from sonoshare_client.own_eyes.fit import study_fit  # noqa: PLC0415
    from sonoshare_shared.errors import RefusedError  # noqa: PLC0415

    home = NodeHome.open(home_path)
    rules, plan = home.policy(), read_plan(plan_file)
    whole, alone = check_plan(plan, rules, home.hospital), epsilon_alone(plan, rules.budget.delta)
    fit = study_fit(home, plan, lambda: datetime.now(UTC))
    result: dict[str, Any] = {
        "study": plan.study,
        "permitted": True,
        "epsilon_training": training_epsilon(plan, rules.budget.delta),
        "epsilon_alone": alone,
        "epsilon_with_audits": whole,
        "delta": rules.budget.delta,
        "budget_epsilon": rules.budget.study_epsilon,
        "fits": not fit.blocking,
        **asdict(fit),
    }

    def human(console: "Console") -> None:
        console.print(
            f"study {plan.study} is within the rules: epsilon {whole:.3f} of {rules.budget.study_epsilon:g} "
            f"at delta {rules.budget.delta:g}",
            markup=False,
            highlight=False,
        )
        if alone is not None:
            console.print(
                f"noise      pooled: the training's epsilon holds while {plan.honest} hospitals of every sum, this one "
                f"among them, are honest; where none of the others is, or masks fail, it is {alone:.3f}",
                markup=False,
                highlight=False,
            )
        _print_fit(console, fit)

    emit(result, as_json, human)
    if fit.blocking:
        raise RefusedError(f"this hospital does not fit the study: {fit.blocking[0]}", remedy="do not join as it is")


def _print_fit(console: "Console", fit: "Fit") -> None:
    classes = ", ".join(f"{name} {count}" for name, count in fit.classes.items())
    for line in (
        f"patients   {fit.trained} trained, {fit.held_out} held out ({classes})",
        f"budget     lifetime epsilon {fit.epsilon_after:.3f} after the study, {fit.epsilon_left:.3f} left",
        f"charged    epsilon {fit.epsilon_charged:.3f} in this study so far",
        f"candidates {max(0, fit.candidates_allowed)} of {fit.candidates} planned are within the budgets",
        *(f"no         {reason}" for reason in fit.blocking),
        *(f"look       {reason}" for reason in fit.advice),
    ):
        console.print(line, markup=False, highlight=False)
