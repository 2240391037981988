"""``sonoshare logout``: forget a catalogue's token."""

from dataclasses import replace

import click

from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_shared.errors import InputError


@click.command(short_help="Forget a catalogue's token.")
@click.argument("server", metavar="[URL]", required=False)
@click.option("--forget", is_flag=True, help="Its pinned root key and log as well: the next login is a first one.")
@json_option
def command(server: str | None, *, forget: bool, as_json: bool) -> int:
    """Forget the tokens of the catalogue at URL, or of the one you logged in to.

    The pinned root key and the log that was seen stay, so that another root or an older log is noticed later too. The
    token itself is good until it ends: revoke it on the catalogue's page.

    Example: sonoshare logout
    """
    from sonoshare_deploy.researcher.places import address_of, read_known, write_known  # noqa: PLC0415

    known = read_known()
    asked = server or known.server
    if asked is None or address_of(asked) not in known.places:
        raise InputError("you are not logged in there", remedy="log in: sonoshare login URL")
    address, place = address_of(asked), known.at(asked)
    places = {name: other for name, other in known.places.items() if name != address}
    if not forget:
        places[address] = replace(place, tokens={})
    stays = None if known.server is None or address_of(known.server) == address else known.server
    write_known(replace(known, server=stays, places=places))
    result = {"server": address, "forgotten": len(place.tokens), "pin_kept": not forget and place.pin is not None}
    emit(result, as_json)
    return 0
