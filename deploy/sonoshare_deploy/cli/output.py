"""How every command prints: a result for people, or with ``--json`` one JSON object as the last line of stdout.

Progress and logs go to stderr, so that stdout holds results only. What is printed may hold the words of peers (a
reason, a clinical question, a refusal on a stick): no escape sequence of theirs reaches the terminal.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from sonoshare_deploy.cli.typed import typed
from sonoshare_shared.printable import printable

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout.")


class _Terminal(Console):
    """A console on which every text is printed as it reads; line ends are left, for texts of several lines."""

    def render_str(self, text: str, **style: Any) -> Text:
        return super().render_str("\n".join(typed(printable(line)) for line in text.split("\n")), **style)


def progress_console() -> Console:
    """Console for progress: stderr."""
    return _Terminal(stderr=True)


def emit(
    result: Mapping[str, object],
    as_json: bool,
    human: Callable[[Console], None] | None = None,
) -> None:
    """Print a result.

    Args:
        result: JSON-able fields.
        as_json: print the JSON line instead of the text for people.
        human: prints the result for people on the given console; without it the fields are listed, lists with commas.
    """
    if as_json:
        click.echo(json.dumps(result))
        return
    console = _Terminal()
    if human is not None:
        human(console)
        return
    for name, value in result.items():
        text = ", ".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)
        line = f"{name}: {printable(text)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)  # digests and paths stay whole
