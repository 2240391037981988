"""How the two ``check`` commands print what they found, and how they end."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.output import emit, next_step
from sonoshare_deploy.cli.typed import typed
from sonoshare_shared.errors import FederationError

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_deploy.preflight.finding import Finding

strict_option = click.option("--strict", is_flag=True, help="Exit 1 on a warning too.")


def emit_findings(
    findings: "Sequence[Finding]",
    beside: Mapping[str, object],
    following: str | None,
    *,
    strict: bool,
    as_json: bool,
    quiet: bool = False,
) -> None:
    """Print the findings, one line each; end with the first failure.

    Args:
        findings: in the order that they are read.
        beside: further fields of the JSON object.
        following: the command to type next where nothing failed; None where it runs already.
        strict: a warning is a failure too.
        as_json: print one JSON object.
        quiet: for people, only what is not well.

    Raises:
        FederationError: something is not well; says it with its remedy.
    """
    from sonoshare_deploy.preflight.finding import first_bad  # noqa: PLC0415 - keeps --help fast

    findings = [replace(one, remedy=typed(one.remedy)) for one in findings]
    bad = first_bad(findings, strict=strict)
    result = {
        "ok": bad is None,
        "cause": None if bad is None else bad.found,
        "remedy": None if bad is None else bad.remedy,
        "findings": [asdict(one) for one in findings],
        **beside,
    }
    shown = [one for one in findings if not quiet or one.level != "ok"]
    width = max((len(one.check) for one in shown), default=0)

    def human(console: "Console") -> None:
        for one in shown:
            remedy = f": {one.remedy}" if one.remedy else ""
            line = f"{one.level:4}  {one.check:{width}}  {one.found}{remedy}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    emit(result, as_json, human)
    if bad is not None:
        raise FederationError(bad.found, remedy=bad.remedy)
    if following is not None and not quiet:
        next_step(following)
