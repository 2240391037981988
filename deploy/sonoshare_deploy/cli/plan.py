"""``sonoshare plan``: what a cohort and a privacy budget can buy, before a unit of it is spent.

Only public numbers go in, so running it costs nothing and tells nothing about any patient.
"""

import dataclasses
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.parameters import FiniteRange
from sonoshare_privacy.planner import Plan, plan_study


@click.command(name="plan")
@click.option("--patients", type=click.IntRange(1), required=True, help="Patients of each hospital (public, nominal).")
@click.option("--hospitals", type=click.IntRange(1), default=1, show_default=True, help="Hospitals of that size.")
@click.option("--epsilon", type=FiniteRange(0, min_open=True), required=True, help="Budget, audits included.")
@click.option("--delta", type=FiniteRange(0, 1, min_open=True, max_open=True), required=True, help="Below 1/patients.")
@click.option("--steps", type=click.IntRange(1), default=200, show_default=True, help="Noisy sums of each hospital.")
@click.option("--rate", type=FiniteRange(0, 1, min_open=True), default=0.25, show_default=True, help="Sampling rate.")
@click.option("--parameters", type=click.IntRange(1), default=30_000, show_default=True, help="Trained numbers.")
@click.option("--audit-epsilon", multiple=True, type=FiniteRange(0, min_open=True), help="Set aside; repeatable.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture (PNG).")
@json_option
def command(  # noqa: PLR0917 - click passes the options by name
    patients: int,
    hospitals: int,
    epsilon: float,
    delta: float,
    steps: int,
    rate: float,
    parameters: int,
    audit_epsilon: tuple[float, ...],
    plot: Path | None,
    as_json: bool,
) -> None:
    """Plan a study's privacy: noise, steps, and what joining hospitals would bring.

    Example: sonoshare plan --patients 300 --epsilon 8 --delta 1e-3
    """
    plan = plan_study(
        patients=patients,
        hospitals=hospitals,
        epsilon_target=epsilon,
        delta=delta,
        steps=steps,
        rate=rate,
        parameters=parameters,
        audits=audit_epsilon,
    )
    result: dict[str, object] = dataclasses.asdict(plan)
    if plot is not None:
        from sonoshare_privacy.plots import draw_plan  # noqa: PLC0415  matplotlib only where a picture is wanted

        draw_plan(plan, plot)
        result["plot"] = str(plot)
    emit(result, as_json, lambda console: _print(plan, console))


def _print(plan: Plan, console: Console) -> None:
    console.print(
        f"Noise multiplier [bold]{plan.noise_multiplier:.4g}[/bold] for {plan.steps} steps at rate {plan.rate:g}: "
        f"epsilon {plan.epsilon:.3f} at delta {plan.delta:g} for each patient"
        + (f", of which {plan.audits:g} is set aside for audits." if plan.audits else ".")
    )
    console.print(
        f"With {plan.parameters} trained parameters the noise of one step is {plan.noise_to_signal:.2g} times the "
        f"largest possible signal; about {plan.trainable_parameters} parameters can be trained."
    )
    table = Table(title=f"Hospitals of {plan.patients} patients each, the same epsilon for every patient")
    for heading in ("hospitals", "noise/signal", "parameters", "noise/signal, one noise", "parameters, one noise"):
        table.add_column(heading, justify="right")
    for entry in plan.with_more_hospitals:
        table.add_row(
            str(entry.hospitals),
            f"{entry.noise_to_signal:.2g}",
            f"{entry.trainable_parameters:,}",
            f"{entry.pooled_noise_to_signal:.2g}",
            f"{entry.pooled_trainable_parameters:,}",
        )
    console.print(table)
