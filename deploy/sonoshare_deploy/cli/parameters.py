"""Options that several commands take, and values that click's own types let pass: names, numbers that are numbers."""

import math
import re
from pathlib import Path
from typing import Any, Final

import click

node_home_option: Final = click.option(
    "--home",
    "home_path",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The node's folder.",
)


class _Identifier(click.ParamType[str]):
    """A name that documents and folders can bear."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name itself; a usage error where it is none."""
        from sonoshare_shared.protocol.documents.base import IDENTIFIER  # noqa: PLC0415 - keeps --help fast

        if not re.fullmatch(IDENTIFIER, value):
            self.fail(f"'{value}' is not of lowercase letters, digits and hyphens (at most 63).", param, ctx)
        return value


IDENTIFIER_NAME: Final = _Identifier()

PROFILE: Final = click.Choice(["tiny", "small", "medium", "large"])
"""Profiles of the model, written out so that --help needs no part of the model."""


class FiniteRange(click.FloatRange):
    """A float range that NaN and infinity are not in; click compares, and NaN compares false with every bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a usage error where it is none."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number
