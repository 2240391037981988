"""The names of consortia, hospitals, studies and releases, as options take them."""

import re
from typing import Final

import click


class _Identifier(click.ParamType[str]):
    """A name that documents and folders can bear."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name itself; a usage error where it is none."""
        from sonoshare_shared.documents.plan import IDENTIFIER  # noqa: PLC0415 - keeps --help fast

        if not re.fullmatch(IDENTIFIER, value):
            self.fail(f"'{value}' is not of lowercase letters, digits and hyphens (at most 63).", param, ctx)
        return value


IDENTIFIER_NAME: Final = _Identifier()
