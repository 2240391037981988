"""``sonoshare hospital receive``: pictures that come by network."""

from pathlib import Path

import click

from sonoshare_deploy.cli.parameters import node_home_option


@click.command(short_help="Receive pictures by C-STORE.")
@node_home_option
def receive(home_path: Path) -> None:
    """Receive pictures by C-STORE into the node's inbox, until interrupted.

    Who may send, and where this listens, says policy.toml under [intake.sources]; as shipped nothing listens.
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast
    from sonoshare_deploy.receiver import run_receiver  # noqa: PLC0415

    run_receiver(NodeHome.open(home_path))
