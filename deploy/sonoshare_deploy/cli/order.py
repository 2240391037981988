"""Groups that list their verbs in the order of work, not of the alphabet.

A verb that the order does not name stands at the end: it is listed all the same.
"""

from typing import Any, Final

import click

_UNCUT: Final = 1_000_000
"""Letters of a line of help."""


class InOrder(click.Group):
    """A group with the order of its verbs; ``verbs`` are names of commands, first things first."""

    def __init__(self, *arguments: Any, verbs: tuple[str, ...] = (), **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the verbs in the order of work."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: self.verbs.index(name) if name in self.verbs else len(self.verbs))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs with their whole line of help: in a narrow window it is wrapped, and not cut."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, one.get_short_help_str(_UNCUT)) for name, one in found if one is not None and not one.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
