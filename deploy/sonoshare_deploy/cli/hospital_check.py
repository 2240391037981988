"""``sonoshare hospital check``: the way to the coordinator, step by step, in one go."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.hospital_quarantine import counts_of, said_of
from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.parameters import node_home_option

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_client.courier.way import Step
    from sonoshare_client.node.home import NodeHome


@click.command(short_help="Test the connection to the coordinator.")
@node_home_option
@click.option("--superlink", help="host:port of the coordinator's fleet listener; as last started if absent.")
@click.option(
    "--root-certificate",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The coordinator's ca.crt; as last started if absent.",
)
@json_option
def check(home_path: Path, superlink: str | None, root_certificate: Path | None, *, as_json: bool) -> None:
    """Test the way to the coordinator, step by step until one fails; exit 1 if one did.

    Through the proxy in HTTPS_PROXY, where there is one. Nothing is started and nothing of a patient is read; how much
    waits in the quarantine, and is of older rules, is counted beside.
    """
    from sonoshare_client.courier.way import Way, try_way  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.node.invitation import read_joined  # noqa: PLC0415
    from sonoshare_client.node.link import read_link  # noqa: PLC0415
    from sonoshare_shared.errors import FederationError  # noqa: PLC0415

    home = NodeHome.open(home_path)
    last, joined = read_link(home.state.link_path), read_joined(home)
    if last is None and joined is None and (superlink is None or root_certificate is None):
        raise click.UsageError("this node was never started: give --superlink and --root-certificate")
    known = last.superlink if last else joined.superlink if joined else ""
    authority = Path(last.root_certificate) if last else home.state.authority_path
    address, certificate = superlink or known, root_certificate or authority
    tested = try_way(Way(address, certificate, home.node_key_path))
    steps = [_enrolled(home, tested.roster_version), *tested.steps]
    counts = counts_of(home)
    failed = next((step for step in (*tested.steps, steps[0]) if not step.ok), None)
    result = {
        "ok": failed is None,
        "superlink": address,
        "steps": [{"step": s.name, "ok": s.ok, "found": s.found, "remedy": s.remedy} for s in steps],
        "cause": None if failed is None else failed.found,
        "remedy": None if failed is None else failed.remedy,
        **counts,
    }

    def human(console: "Console") -> None:
        _print(console, steps)
        console.print(f"set aside: {said_of(counts)}", markup=False, highlight=False)

    emit(result, as_json, human)
    if failed is not None:
        raise FederationError(failed.found, remedy=failed.remedy)


def _enrolled(home: "NodeHome", newest: int | None) -> "Step":
    """Whether the pinned roster names this node, and is the newest."""
    from sonoshare_client.courier.way import Step  # noqa: PLC0415
    from sonoshare_client.node.joining import require_named  # noqa: PLC0415
    from sonoshare_client.node.witness import pinned_roster, require_current  # noqa: PLC0415
    from sonoshare_shared.errors import SonoShareError  # noqa: PLC0415

    try:
        roster = pinned_roster(home.state_path)
        require_named(roster, home, node_key=newest is None)  # where the coordinator knows the key, all is well
        require_current(roster)
    except SonoShareError as error:
        return Step("enrolled", ok=False, found=error.message, remedy=error.remedy)
    if newest is not None and newest > roster.version:
        # Nothing is broken yet: plans of hospitals that this roster names go on.
        return Step(
            "enrolled",
            ok=True,
            found=f"roster version {roster.version}; the coordinator has version {newest}: get it, and enrol again",
        )
    return Step("enrolled", ok=True, found=f"{roster.consortium}, roster version {roster.version}")


def _print(console: "Console", steps: "list[Step]") -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table("step", "", "found")
    for step in steps:
        table.add_row(step.name, "ok" if step.ok else "failed", step.found)
    console.print(table)
