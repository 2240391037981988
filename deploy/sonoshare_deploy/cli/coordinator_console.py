"""``sonoshare coordinator console``: the coordinator's pages in a browser on this machine, for its own staff."""

from pathlib import Path

import click

from sonoshare_deploy.cli.coordinator_release import home_option


@click.command(short_help="Show the coordinator in a browser of this machine.")
@home_option
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="On 127.0.0.1; a free one if absent.")
def console(home: Path, *, port: int) -> None:
    """Show the coordinator in a browser of this machine: who is online, studies, releases, members, the log.

    It prints a link that works once, within ten minutes, for one browser. It serves on 127.0.0.1 alone, until
    interrupted; the coordinator may run meanwhile or not. What a button starts ends with it.

    Example: sonoshare coordinator console --home C
    """
    from sonoshare_deploy.coordinator_console.app import coordinator_console  # noqa: PLC0415 - keeps --help fast
    from sonoshare_deploy.coordinator_console.starting import Commands  # noqa: PLC0415
    from sonoshare_server.consortium.members import Consortium  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.local_pages.serving import serve  # noqa: PLC0415

    folder = CoordinatorHome(home)
    name = Consortium.read(folder).name

    def announce(link: str) -> None:
        click.echo(f"{name}: open this link in a browser of this machine; it works once, within 10 minutes:")
        click.echo(link)
        click.echo("Ctrl-C ends the console, and what was started in it")

    with Commands(folder) as commands:
        serve(lambda door: coordinator_console(folder, commands, door), port, announce)
