"""``sonoshare coordinator people``: what people with an account at the catalogue may see, and what was read.

Everything is imported inside the commands, so that ``--help`` is fast.
"""

from pathlib import Path
from typing import Literal

import click

from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.order import InOrder
from sonoshare_deploy.cli.output import emit, json_option


@click.group("people", cls=InOrder)
def people() -> None:
    """People with an account at the catalogue."""


@people.command(short_help="Give somebody a role.")
@home_option
@click.option("--email", required=True, help="Address of the account.")
@click.option(
    "--role",
    "name",
    required=True,
    type=click.Choice(("researcher", "auditor", "coordinator")),
    help="What the person may do from now on.",
)
@json_option
def role(home: Path, email: str, name: Literal["researcher", "auditor", "coordinator"], as_json: bool) -> None:
    """Give somebody a role: an auditor sees the access log without names, a coordinator with them.

    Example: sonoshare coordinator people role --home C --email A --role auditor
    """
    from sonoshare_server.consortium.publication import give_role  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    give_role(CoordinatorHome(home), email, name)
    emit({"email": email, "role": name}, as_json)


@people.command(short_help="Write the access log.")
@home_option
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file (CSV).")
@json_option
def accesses(home: Path, out: Path, as_json: bool) -> None:
    """Write on which day whose token read data of which release.

    Example: sonoshare coordinator people accesses --home C --out accesses.csv
    """
    from sonoshare_server.consortium.publication import access_log  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.durable import write_atomically  # noqa: PLC0415

    text = access_log(CoordinatorHome(home))
    write_atomically(out, text.encode(), mode=0o600)
    emit({"out": str(out), "entries": text.count("\r\n") - 1}, as_json)
