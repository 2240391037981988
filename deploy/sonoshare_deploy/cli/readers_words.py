"""The comparison of readers, for people: a table of treatments, then the difference and what it rests on."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from sonoshare_deploy.cli.output import folding_table


def print_readers(console: Console, fields: Mapping[str, Any]) -> None:
    """Print the fields of ``sonoshare evaluate readers --json``; a figure that is not known or not finite is ``-``."""
    treatments = folding_table("treatment", "AUC", "standard error", "95 % interval")
    for name, one in fields["treatments"].items():
        treatments.add_row(name, f"{one['auc']:.3f}", f"{one['se']:.3f}", _interval(one["interval"]))
    console.print(treatments)
    difference = fields["difference"]
    if difference is not None:
        first, second, *_ = fields["treatments"]
        said = f"{difference['estimate']:+.3f} ({_interval(difference['interval'])}), p = {_number(difference['p'])}"
        _line(console, f"{second} minus {first}: AUC {said}")
    test = f"F({fields['df1']}, {_number(fields['df2'])}) = {_number(fields['F'])}, p = {_number(fields['p'])}"
    _line(console, f"all treatments alike: {test}")
    parts = folding_table("component of variance", "estimate")
    for name, value in fields["components"].items():
        parts.add_row(name, _number(value))
    console.print(parts)


def _interval(interval: list[float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
