"""How every command prints: a result for people, or with ``--json`` one JSON object as the last line of stdout.

Progress and logs go to stderr, so that stdout holds results only.
"""

import json
from collections.abc import Callable, Mapping

import click
from rich.console import Console

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout.")


def progress_console() -> Console:
    """Console for progress: stderr."""
    return Console(stderr=True)


def emit(
    result: Mapping[str, object],
    as_json: bool,
    human: Callable[[Console], None] | None = None,
) -> None:
    """Print a result.

    Args:
        result: JSON-able fields.
        as_json: print the JSON line instead of the text for people.
        human: prints the result for people on the given console; without it the fields are listed.
    """
    if as_json:
        click.echo(json.dumps(result))
        return
    console = Console()
    if human is not None:
        human(console)
        return
    for name, value in result.items():
        console.print(f"{name}: {value}", highlight=False, markup=False, soft_wrap=True)  # digests and paths stay whole
