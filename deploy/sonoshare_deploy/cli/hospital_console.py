"""``sonoshare hospital console``: the node's pages in a browser on this machine, for the hospital's own staff."""

from pathlib import Path

import click

from sonoshare_deploy.cli.device import found_device, node_device_option
from sonoshare_deploy.cli.parameters import node_home_option


@click.command(short_help="Show the node in a browser of this machine.")
@node_home_option
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="On 127.0.0.1; a free one if absent.")
@node_device_option
def console(home_path: Path, *, port: int, device: str | None) -> None:
    """Show the node in a browser of this machine: studies to decide about, budget, pictures, audits, the log.

    It prints a link that works once, within ten minutes, for one browser. It serves on 127.0.0.1 alone, until
    interrupted; the node may run meanwhile or not. For those who may see the hospital's patients.

    Example: sonoshare hospital console --home NODE
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.vault.store import Vault  # noqa: PLC0415
    from sonoshare_deploy.hospital_console.app import hospital_console  # noqa: PLC0415
    from sonoshare_deploy.hospital_node import write_no_core_files  # noqa: PLC0415
    from sonoshare_shared.local_pages.serving import serve  # noqa: PLC0415

    home = NodeHome.open(home_path)
    with Vault(home):
        pass  # a key that is not there is said now, in one line
    where, _ = found_device(device or home.device)
    write_no_core_files()

    def announce(link: str) -> None:
        click.echo(f"{home.hospital}: open this link in a browser of this machine; it works once, within 10 minutes:")
        click.echo(link)
        click.echo("Ctrl-C ends the console")

    serve(lambda door: hospital_console(home, where, door), port, announce)
