"""``sonoshare releases``: what a catalogue has."""

from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sonoshare_deploy.cli.output import emit, json_option

DEFAULT_SERVER = "http://127.0.0.1:8080"


@click.command()
@click.option("--server", envvar="SONOSHARE_SERVER", default=DEFAULT_SERVER, show_default=True, help="The catalogue.")
@json_option
def command(server: str, as_json: bool) -> int:
    """List the releases of a catalogue."""
    # Imported here: `releases --help` needs none of it.
    from sonoshare_shared.protocol.release.remote import connected, list_releases  # noqa: PLC0415

    with connected(server) as client:
        releases = list_releases(client)
    emit({"releases": releases}, as_json, lambda console: _show(console, releases))
    return 0


def _show(console: Console, releases: list[dict[str, Any]]) -> None:
    if not releases:
        console.print("Nothing is published yet.")
        return
    table = Table("release", "state", "images", "epsilon", "delta", "question")
    for release in releases:
        privacy = release.get("privacy", {})
        cells = (release.get("release"), release.get("state"), release.get("images"))
        figures = (_figure(privacy.get("epsilon"), ".2f"), _figure(privacy.get("delta"), ".1e"))
        # A catalogue's words are not ours: they must not steer the terminal.
        table.add_row(*(_plain(cell) for cell in (*cells, *figures, release.get("question"))))
    console.print(table)


def _figure(value: object, style: str) -> str:
    return format(value, style) if isinstance(value, int | float) else "?"


def _plain(value: object) -> str:
    return escape("".join(character for character in str(value)[:120] if character.isprintable()))
