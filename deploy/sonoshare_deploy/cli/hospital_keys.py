"""``sonoshare hospital keys``: which keys a node has, and changing them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.order import InOrder
from sonoshare_deploy.cli.output import emit, folding_table, json_option
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


@click.group(cls=InOrder, short_help="Show the node's keys, or change one.", invoke_without_command=True)
@home_option
@json_option
@click.pass_context
def keys(context: click.Context, home_path: Path | None, *, as_json: bool) -> None:
    """Show the node's keys: what the coordinator needs of them, fingerprints to compare, and their ages.

    See docs/keys.md for what each is for and how it is changed.

    Example: sonoshare hospital keys --home NODE
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
    table = folding_table(
        "key", "fingerprint", "made (UTC)", "days", "in the pinned roster", title=f"keys of {hospital}"
    )
    for line in lines:
        known = {True: "yes", False: "no", None: "-"}[line.rostered]
        table.add_row(line.name, line.fingerprint or "secret", str(line.made.date()), str(line.days(now)), known)
    console.print(table)
    for line in lines:  # whole lines to copy, however narrow the window
        if line.public:
            console.print(f"{line.name} key  {line.public}", markup=False, highlight=False, soft_wrap=True)


@keys.command(short_help="Change the node key or the identity key without a stop.")
@node_home_option
@click.option("--node", is_flag=True, help="The courier's key.")
@click.option("--identity", is_flag=True, help="The key that signs the ledger, updates, statements and releases.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file for the coordinator; node-key-change.json or identity-change.json if absent.",
)
@json_option
def rotate(home_path: Path, *, node: bool, identity: bool, out: Path | None, as_json: bool) -> None:
    """Make the next key, and the signed file by which the coordinator admits it.

    The node goes on with the old key. Send the file, and tell the fingerprint by telephone; once the coordinator has
    run 'sonoshare coordinator admit --rotate FILE', the running node goes over to the new key by itself. Run again, it
    gives the same key. Back up identity.next.key like identity.key, offline: from then on it is the hospital's
    identity.

    Example: sonoshare hospital keys rotate --home NODE --node
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.identity_rotation import prepare_identity  # noqa: PLC0415
    from sonoshare_client.node.rotation import prepare_node_key  # noqa: PLC0415
    from sonoshare_client.own_eyes.key_overview import node_fingerprint  # noqa: PLC0415
    from sonoshare_shared.durable import write_atomically  # noqa: PLC0415

    if node == identity:
        raise click.UsageError("say which key: --node, or --identity")
    home = NodeHome.open(home_path)
    if node:
        change, path = prepare_node_key(home), out or Path("node-key-change.json")
        new = home.node_public_keys[-1]
        result = {"node_public_key": new, "fingerprint": node_fingerprint(new)}
    else:
        (change, public), path = prepare_identity(home), out or Path("identity-change.json")
        result = {"identity_public_key": public.hex, "fingerprint": public.fingerprint}
    write_atomically(path, change.to_bytes())
    emit({"file": str(path), **result}, as_json)
