"""The reference of every command, from the commands themselves: ``python -m sonoshare_deploy.cli.reference``.

Promises: every command and every visible option stands in it, in the order of ``--help``; the same commands give the
same bytes.
"""

from collections.abc import Iterator
from inspect import cleandoc

import click

from sonoshare_deploy.cli.main import cli

HEAD = """# Commands

Every command and option of `sonoshare`, in the order of work. This page is made, not written:
`python -m sonoshare_deploy.cli.reference > docs/reference/commands.md`.

Results go to stdout, everything else to stderr: `sonoshare evaluate readers ratings.csv > result.txt` keeps the result
alone. What shows progress or says more than its result has `--quiet`; then stderr holds errors and warnings only, and
what a person is asked. Exit status: 0 done, 1 refused, failed or not verified, 2 wrong usage.
"""


def leaves(group: click.Group = cli, path: tuple[str, ...] = ("sonoshare",)) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with the words that call it; a group only where it is one itself."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        words = (*path, name)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join(words), command
        if isinstance(command, click.Group):
            yield from leaves(command, words)


def page() -> str:
    """The reference as Markdown."""
    return HEAD + "".join(_section(words, command) for words, command in leaves())


def _section(words: str, command: click.Command) -> str:
    context = click.Context(command, info_name=words)
    usage = " ".join(command.collect_usage_pieces(context))
    about = cleandoc(command.help or "").replace("\b", "").strip()
    lines = [f"\n## {words}\n", f"    {words} {usage}\n", about, ""]
    for option in command.params:
        told = option.get_help_record(context) if isinstance(option, click.Option) else None
        if told is not None:
            name, words_of_it = told
            lines.append(f"- `{name}`: {words_of_it}" if words_of_it else f"- `{name}`")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    click.echo(page(), nl=False)
