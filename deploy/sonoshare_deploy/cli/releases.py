"""``sonoshare releases``: what a catalogue has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape

from sonoshare_deploy.cli.output import emit, folding_table, json_option
from sonoshare_shared.errors import FederationError

DEFAULT_SERVER: Final = "http://127.0.0.1:8080"
FIGURES: Final = ("images", "pixels", "size", "epsilon", "delta")
TABLE_WIDTH: Final = 100
"""In a narrower window a release has lines of its own: a table would cut the names that are to be copied."""


def server_option(what: str) -> Callable[[Any], Any]:
    """The option that names a catalogue."""
    return click.option(
        "--server",
        envvar="SONOSHARE_SERVER",
        help=f"{what}  [default: the one you logged in to, or {DEFAULT_SERVER}]",
    )


@contextmanager
def the_server(given: str | None) -> Iterator[str]:
    """The catalogue that a command means; where nobody has named one and none is here, the error says how to.

    Raises:
        IntegrityError: what is remembered of logins is damaged.
    """
    from sonoshare_deploy.researcher.places import read_known  # noqa: PLC0415 - keeps --help fast

    named = given or read_known().server
    try:
        yield named or DEFAULT_SERVER
    except FederationError as error:
        if named is not None or type(error) is not FederationError:  # a cut transfer was from a catalogue
            raise
        words = f"no catalogue was named, and at {DEFAULT_SERVER} there is none: {error.message}"
        raise FederationError(words, remedy="name yours: sonoshare login URL; or give --server URL") from error


@click.command()
@server_option("The catalogue.")
@json_option
def command(server: str | None, as_json: bool) -> int:
    """List the releases of a catalogue.

    Example: sonoshare releases --server https://fed.example.org
    """
    # Imported here: `releases --help` needs none of it.
    from sonoshare_shared.protocol.release.remote import connected, list_releases  # noqa: PLC0415

    with the_server(server) as address, connected(address) as client:
        releases = list_releases(client)
    emit({"server": address, "releases": releases}, as_json, lambda console: _show(console, address, releases))
    return 0


def _show(console: Console, server: str, releases: list[dict[str, Any]]) -> None:
    if not releases:
        console.print("Nothing is published yet.")
        return
    if console.width < TABLE_WIDTH:
        for release in releases:
            name, state, *figures, question = _cells(release)
            console.print(f"[bold]{name}[/bold]  {state}", highlight=False, soft_wrap=True)
            told = ", ".join(f"{what} {figure}" for what, figure in zip(FIGURES, figures, strict=True) if figure)
            console.print(f"  {told}\n  {question}", highlight=False)
    else:
        table = folding_table("release", "state", *FIGURES, "question")
        for release in releases:
            table.add_row(*_cells(release))
        console.print(table)
    for release in releases:
        if release.get("state") == "revoked":
            console.print(_plain(f"{release.get('release')} was revoked by {release.get('reason')}", 400))
    contacts = sorted({str(release["contact"]) for release in releases if release.get("contact")})
    if contacts:
        console.print(_plain(f"contact: {', '.join(contacts)}", 400))
    console.print(_plain(f"get one: sonoshare fetch RELEASE --server {server} --out DIR", 400))


def _cells(release: dict[str, Any]) -> list[str]:
    """Name, state, figures and question; a catalogue's words are not ours: they must not steer the terminal."""
    privacy = release.get("privacy")
    privacy = privacy if isinstance(privacy, dict) else {}
    figures = (
        release.get("images", "?"),
        _pixels(release),
        _size(release.get("size_bytes")),
        _figure(privacy.get("epsilon"), ".2f"),
        _figure(privacy.get("delta"), ".1e"),
    )
    return [
        _plain(cell) for cell in (release.get("release"), release.get("state"), *figures, release.get("question", ""))
    ]


def _pixels(release: dict[str, Any]) -> str:
    """Side of the pictures, where the catalogue says it: a number, or width and height."""
    said = release.get("image_size", release.get("pixels", ""))
    sides = said if isinstance(said, list) else [said, said]
    return "x".join(map(str, sides)) if all(isinstance(side, int) for side in sides) else ""


def _size(count: object) -> str:
    if not isinstance(count, int):
        return ""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _figure(value: object, style: str) -> str:
    return format(value, style) if isinstance(value, int | float) else "?"


def _plain(value: object, most: int = 120) -> str:
    return escape("".join(character for character in str(value)[:most] if character.isprintable()))
