"""How every command prints: a result for people, or with ``--json`` one JSON object as the last line of stdout.

Progress and logs go to stderr, so that stdout holds results only. What is printed may hold the words of peers (a
reason, a clinical question, a refusal on a stick): no escape sequence of theirs reaches the terminal.

One rule for ``--quiet``: whatever says more than its result (``progress_console``, ``note``, a next step) has it, and
under it stdout holds the result alone, and stderr nothing but errors, warnings and the questions that a person is
asked. A command that prints nothing but its result has no such option: it is quiet always. Those that run until they
are interrupted write a log, which is theirs to write.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from sonoshare_deploy.cli.typed import typed
from sonoshare_shared.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout.")
_QUIET: Final = "sonoshare_deploy.quiet"


def _keep_quiet(context: click.Context, _option: click.Parameter, value: bool) -> None:
    context.meta[_QUIET] = value


quiet_option = click.option(
    "--quiet",
    "-q",
    is_flag=True,
    expose_value=False,
    callback=_keep_quiet,
    help="Print the result alone: no progress, no notes. Errors and warnings stay.",
)


def is_quiet() -> bool:
    """Whether the command that runs was asked to print its result alone."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_QUIET, False))


def note(line: str) -> None:
    """A line on stderr beside the result; none under ``--quiet``."""
    if not is_quiet():
        click.echo(typed(printable(line)), err=True)


def next_step(*commands: str) -> None:
    """What to type now, where the reader stands: the last lines of a verb of the set-up and of the order of work.

    On stderr, so that a result stays what scripts read; none under ``--quiet``.
    """
    for word, command in zip(("next", *["then"] * len(commands)), commands, strict=False):
        note(f"{word}: {command}")


def insist(line: str) -> None:
    """A line on stderr that ``--quiet`` leaves: a warning, an error, what a person is asked about."""
    click.echo(typed(printable(line)), err=True)


class _Terminal(Console):
    """A console on which every text is printed as it reads; line ends are left, for texts of several lines."""

    def render_str(self, text: str, **style: Any) -> Text:
        return super().render_str("\n".join(typed(printable(line)) for line in text.split("\n")), **style)


def progress_console() -> Console:
    """Console for progress: stderr, or nowhere under ``--quiet``."""
    return _Terminal(stderr=True, quiet=is_quiet())


def folding_table(*headings: str, title: str | None = None) -> "Table":
    """A table that folds what is too long for a narrow window, and cuts nothing."""
    from rich.table import Table  # noqa: PLC0415 - keeps --help fast

    made = Table(title=title)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def emit(
    result: Mapping[str, object],
    as_json: bool,
    human: Callable[[Console], None] | None = None,
) -> None:
    """Print a result.

    Args:
        result: JSON-able fields.
        as_json: print the JSON line instead of the text for people.
        human: prints the result for people on the given console; without it the fields are listed (``in_words``).
    """
    if as_json:
        click.echo(json.dumps(result))
        return
    console = _Terminal()
    if human is not None:
        human(console)
        return
    for line in _field_lines(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)  # digests and paths stay whole


def in_words(value: object) -> str:
    """A value of a result as people read it: no word of Python's, lists with commas."""
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else printable(str(value))


def _field_lines(fields: Mapping[str, object], indent: str = "") -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _field_lines(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {'none' if value == {} else in_words(value)}"
