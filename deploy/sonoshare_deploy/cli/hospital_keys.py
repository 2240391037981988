"""``sonoshare hospital keys``: which keys a node has, and changing them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.parameters import node_home_option

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_client.own_eyes.key_overview import KeyLine

home_option = click.option(
    "--home",
    "home_path",
    type=click.Path(path_type=Path, file_okay=False),
    help="The node's folder.",
)


@click.group(short_help="Show the node's keys, or change one.", invoke_without_command=True)
@home_option
@json_option
@click.pass_context
def keys(context: click.Context, home_path: Path | None, *, as_json: bool) -> None:
    """Show the node's keys: what the coordinator needs of them, fingerprints to compare, and their ages.

    See docs/keys.md for what each is for and how it is changed.
    """
    if context.invoked_subcommand is not None:
        return
    if home_path is None:
        raise click.UsageError("give the node's folder: --home")
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast
    from sonoshare_client.own_eyes.key_overview import key_overview  # noqa: PLC0415

    home, now = NodeHome.open(home_path), datetime.now(UTC)
    lines = key_overview(home)
    result = {
        "id": home.hospital,
        "keys": [
            {
                "key": line.name,
                "public": line.public or None,
                "fingerprint": line.fingerprint or None,
                "made": line.made.isoformat(timespec="seconds"),
                "days": line.days(now),
                "in_roster": line.rostered,
            }
            for line in lines
        ],
    }
    emit(result, as_json, lambda console: _print(console, home.hospital, lines, now))


def _print(console: "Console", hospital: str, lines: "list[KeyLine]", now: datetime) -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table("key", "fingerprint", "made (UTC)", "days", "in the pinned roster", title=f"keys of {hospital}")
    for line in lines:
        known = {True: "yes", False: "no", None: "-"}[line.rostered]
        table.add_row(line.name, line.fingerprint or "secret", str(line.made.date()), str(line.days(now)), known)
    console.print(table)
    for line in lines:  # whole lines to copy, however narrow the window
        if line.public:
            console.print(f"{line.name} key  {line.public}", markup=False, highlight=False, soft_wrap=True)


@keys.command(short_help="Change the node key without a stop.")
@node_home_option
@click.option("--node", is_flag=True, help="The courier's key, the one that can be changed.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="node-key-change.json",
    show_default=True,
    help="The file for the coordinator.",
)
@json_option
def rotate(home_path: Path, *, node: bool, out: Path, as_json: bool) -> None:
    """Make the courier's next key, and the signed file by which the coordinator admits it.

    The node goes on with the old key. Send the file; once the coordinator has run 'coordinator admit --rotate FILE',
    the running node goes over to the new key by itself. Run again, it gives the same key.
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.rotation import prepare_node_key  # noqa: PLC0415
    from sonoshare_client.own_eyes.key_overview import node_fingerprint  # noqa: PLC0415
    from sonoshare_shared.durable import write_atomically  # noqa: PLC0415

    if not node:
        raise click.UsageError("say which key: --node (an identity is not changed: see docs/keys.md)")
    home = NodeHome.open(home_path)
    change = prepare_node_key(home)
    write_atomically(out, change.to_bytes())
    new = home.node_public_keys[-1]
    result = {"file": str(out), "node_public_key": new, "fingerprint": node_fingerprint(new)}
    emit(result, as_json)
