"""Groups of commands that work on a role's folder: what they make is their user's alone, whatever the shell's umask.

A role's folder has keys, budgets and the names of people. A site may run with a umask of 022 or of none at all; what is
for others is opened to them by name (the agent's socket, the courier's certificate), never by a umask. Not promised:
that a folder which was made wider before is narrowed.
"""

import os
from typing import Any, Final

import click

from sonoshare_deploy.cli.order import InOrder

OTHERS: Final = 0o077
"""What group and others lack."""


class Private(InOrder):
    """A group, in the order of work, whose commands make nothing that others may read or write."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command under a umask that is at least `OTHERS`."""
        before = os.umask(OTHERS)
        os.umask(before | OTHERS)
        try:
            return super().invoke(ctx)
        finally:
            os.umask(before)
