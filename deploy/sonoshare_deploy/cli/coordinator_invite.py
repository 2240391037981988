"""``sonoshare coordinator invite``: one file for one hospital, with all that it needs to join."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.parameters import IDENTIFIER_NAME
from sonoshare_deploy.cli.pasted import pasted

if TYPE_CHECKING:
    from rich.console import Console


@click.command(short_help="Write an invitation for one hospital.")
@home_option
@click.option("--id", "hospital", type=IDENTIFIER_NAME, required=True, help="Id that the hospital will have.")
@click.option("--superlink", metavar="HOST:PORT", help="Address that hospitals connect to; this server's if absent.")
@click.option("--days", type=click.IntRange(1, 365), default=14, show_default=True, help="How long it holds.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write; ID-invitation.json.")
@json_option
def invite(home: Path, *, hospital: str, superlink: str | None, days: int, out: Path | None, as_json: bool) -> None:
    """Write an invitation for one hospital: address, authority, root key, roster and a code that is used once.

    Send it to the hospital alone, and tell it the root key's fingerprint by telephone. Another invitation for the same
    hospital takes the place of the first.

    Example: sonoshare coordinator invite --home C --id west
    """
    from sonoshare_deploy.invited_address import invited_address  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_server.consortium import inviting  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.durable import write_atomically  # noqa: PLC0415

    folder, path = CoordinatorHome(home), out or Path(f"{hospital}-invitation.json")
    address, now = invited_address(folder, superlink), datetime.now(UTC)
    invitation = inviting.invite(folder, hospital, address, days=days, now=now)
    write_atomically(path, invitation.to_bytes(), mode=0o600)
    until = inviting.read_invited(folder)[hospital].expires
    result = {
        "hospital": hospital,
        "file": str(path),
        "superlink": address,
        "root_fingerprint": folder.root.fingerprint,
        "expires": until.isoformat(),
    }

    def human(console: "Console") -> None:
        for text in (
            f"invitation  {path}: for {hospital} alone, holds until {until.date()}",
            f"connects to {address}",
            f"root key    fingerprint {folder.root.fingerprint}: tell it by telephone",
            f"there:      sonoshare hospital join {path.name} --home {hospital}",
            f"then here:  {pasted('coordinator', 'admit', '--home', home, f'{hospital}-request.json')}",
        ):
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    emit(result, as_json, human)
