"""``sonoshare completion``: the script that lets a shell complete commands and options."""

import click
from click.shell_completion import get_completion_class

from sonoshare_shared.errors import InputError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell, for its start-up file: it completes commands and options.

    Example: sonoshare completion bash
    """
    from sonoshare_deploy.cli.main import cli  # noqa: PLC0415 - main imports this module by name

    completes = get_completion_class(shell)
    if completes is None:
        raise InputError(f"nothing is known of {shell}", remedy="use bash, zsh or fish")
    click.echo(completes(cli, {}, "sonoshare", "_SONOSHARE_COMPLETE").source())
