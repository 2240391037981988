"""``sonoshare login``: keep a catalogue's address and token, and pin the root key of its consortium."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sonoshare_deploy.cli.output import emit, insist, json_option
from sonoshare_shared.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_deploy.researcher.places import Pin, Place
    from sonoshare_shared.protocol.envelope import Envelope

STDIN: Final = "-"
FIRST_USE: Final = (
    "warning: the root key was taken from the catalogue itself, on first use.",
    "warning: compare the fingerprint with a hospital's by another way, then: sonoshare login URL --root KEY",
)


@click.command(short_help="Keep a catalogue's token, and pin its consortium's root key.")
@click.argument("server", metavar="URL")
@click.option(
    "--token",
    envvar="SONOSHARE_TOKEN",
    help="Token of the data-use agreement; '-' reads it from standard input, where no list of processes shows it.",
)
@click.option("--release", help="The one release that the token is for, where you have several.")
@click.option("--roster", "roster_file", type=click.Path(path_type=Path), help="Signed roster from a hospital: pins.")
@click.option("--root", help="The consortium's root key (hexadecimal) from a hospital: pins.")
@json_option
def command(
    *,
    server: str,
    token: str | None,
    release: str | None,
    roster_file: Path | None,
    root: str | None,
    as_json: bool,
) -> int:
    """Log in to the catalogue at URL: 'releases', 'fetch' and 'verify' mean it from now on.

    Everything that is verified rests on the consortium's root key. Give it by --root or --roster, from a hospital.
    Without them the key is taken that the catalogue shows at this first login, and kept: who comes between later is
    seen, who is between now is not.

    Example: sonoshare login https://fed.example.org
    """
    from sonoshare_deploy.researcher.places import read_known, write_known  # noqa: PLC0415 - keeps --help fast
    from sonoshare_shared.protocol.release.remote import connected, get_roster  # noqa: PLC0415

    with connected(server) as client:
        shown = get_roster(client)
    known = read_known()
    place = known.at(server)
    pin, roster = _pinned(place, shown, roster_file, root)
    words = FIRST_USE if place.pin is None and pin.by == "first-use" else ()
    place = replace(_with_token(place, server, _token(token), release), pin=pin, roster=roster)
    write_known(type(known)(server=server.rstrip("/"), places=known.having(server, place).places))
    result = _said(server, pin, roster) | {"tokens": sorted(place.tokens)}

    def human(console: "Console") -> None:
        console.print(f"logged in to {server}", highlight=False, markup=False)
        console.print(f"  consortium {result['consortium']}, roster version {result['roster_version']}", markup=False)
        console.print(f"  root key {result['root']}", highlight=False, soft_wrap=True)
        console.print(f"  fingerprint {result['fingerprint']}", highlight=False, soft_wrap=True)
        kept = ", ".join(sorted(place.tokens)).replace("*", "every release") or "none yet: fetch asks for one"
        console.print(f"  token for {kept}", highlight=False, markup=False)

    emit(result, as_json, human)
    for line in words:
        insist(line)
    return 0


def _pinned(place: "Place", shown: "Envelope", roster_file: Path | None, root: str | None) -> "tuple[Pin, Envelope]":
    """The root key to pin, and the newest roster under it.

    Raises:
        VerificationError: cause ``roster``: the catalogue shows a roster of another root key.
    """
    from sonoshare_deploy.researcher.places import Pin  # noqa: PLC0415
    from sonoshare_deploy.researcher.trust import newest_roster, read_roster  # noqa: PLC0415
    from sonoshare_shared.protocol.keys import PublicKey  # noqa: PLC0415
    from sonoshare_shared.protocol.release.verify import open_roster  # noqa: PLC0415

    today = f"{datetime.now(UTC):%Y-%m-%d}"
    given = None if root is None else PublicKey.from_hex(root)
    roster = None if roster_file is None else read_roster(roster_file)
    if roster is not None:
        pin = Pin(open_roster(roster, given).root_key, "by-hand", today)
    elif given is not None:
        pin = Pin(given.hex, "by-hand", today)
    elif place.pin is not None:
        pin = place.pin
    else:
        pin = Pin(open_roster(shown).root_key, "first-use", today)
    # A roster that was kept under another root key is of the past.
    kept = place.roster if place.pin is not None and place.pin.root == pin.root else None
    return pin, newest_roster(PublicKey.from_hex(pin.root), shown, kept, roster)


def _token(given: str | None) -> str | None:
    """The token, from the command line, from standard input, or asked for where a person sits."""
    if given == STDIN:
        given = sys.stdin.readline()
    elif given is None and sys.stdin is not None and sys.stdin.isatty():
        given = click.prompt("Token (empty for none)", default="", hide_input=True, show_default=False)
    return (given or "").strip() or None


def _with_token(place: "Place", server: str, token: str | None, release: str | None) -> "Place":
    from sonoshare_deploy.researcher.places import EVERY_RELEASE  # noqa: PLC0415
    from sonoshare_shared.protocol.release.remote import connected  # noqa: PLC0415
    from sonoshare_shared.protocol.release.sources import require_release_id  # noqa: PLC0415

    if token is None:
        if release is not None:
            raise InputError(f"no token for {release[:80]!r} was given", remedy="give it: --token -")
        return place
    with connected(server, token):
        pass  # refuses what no header can hold
    named = EVERY_RELEASE if release is None else require_release_id(release)
    return replace(place, tokens={**place.tokens, named: token})


def _said(server: str, pin: "Pin", signed: "Envelope") -> dict[str, object]:
    from sonoshare_deploy.researcher.places import FILE, config_folder  # noqa: PLC0415
    from sonoshare_shared.protocol.keys import PublicKey  # noqa: PLC0415
    from sonoshare_shared.protocol.release.verify import open_roster  # noqa: PLC0415

    roster = open_roster(signed)
    return {
        "server": server,
        "consortium": roster.consortium,
        "roster_version": roster.version,
        "root": pin.root,
        "fingerprint": PublicKey.from_hex(pin.root).fingerprint,
        "root_pinned": pin.by,
        "config": str(config_folder() / FILE),
    }
