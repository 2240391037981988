"""``sonoshare hospital check``: what a node and its machine need, and the way to the coordinator, in one go."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.check_output import emit_findings, strict_option
from sonoshare_deploy.cli.hospital_quarantine import counts_of
from sonoshare_deploy.cli.output import json_option
from sonoshare_deploy.cli.parameters import node_home_option
from sonoshare_deploy.cli.pasted import at_home

if TYPE_CHECKING:
    from sonoshare_client.courier.way import Step, Way
    from sonoshare_client.node.home import NodeHome


@click.command(short_help="Look at machine, keys, vault, and the connection.")
@node_home_option
@click.option("--superlink", help="host:port of the coordinator's fleet listener; as last started if absent.")
@click.option(
    "--root-certificate",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The coordinator's ca.crt; as last started if absent.",
)
@strict_option
@click.option("--quiet", "-q", is_flag=True, help="Print only what is not well.")
@json_option
def check(
    home_path: Path,
    superlink: str | None,
    root_certificate: Path | None,
    *,
    strict: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Look at the machine, the folder's permissions, keys, rules, vault, ledger and quarantine, and try the connection.

    One line each: ok, warn or fail, with the problem and the remedy. The way to the coordinator is tried step by step
    until one fails, through the proxy in HTTPS_PROXY where there is one. Nothing is started or written, no picture is
    read, and the counts of patients are for your own eyes. Exit 1 on a failure, with --strict on a warning too.

    Example: sonoshare hospital check --home NODE
    """
    from sonoshare_client.courier.way import superlink_address, try_way  # noqa: PLC0415 - keeps --help fast
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_deploy.preflight import hospital  # noqa: PLC0415
    from sonoshare_deploy.preflight.hospital_facts import node_findings  # noqa: PLC0415
    from sonoshare_shared.locks import is_locked  # noqa: PLC0415

    home, typed = NodeHome.open(home_path), partial(at_home, home_path)
    asked = _way(home, superlink, root_certificate)
    tested = None if asked is None else try_way(asked)
    steps = () if tested is None else (_enrolled(home, tested.roster_version), *tested.steps)
    found = hospital.way([*steps[1:], *steps[:1]]) if steps else [hospital.no_way(typed)]
    host = superlink_address(asked.superlink)[0] if asked and tested and tested.steps[0].ok else None
    here = node_findings(home, partial(counts_of, home), datetime.now(UTC), host, typed)
    beside = {
        "superlink": None if asked is None else asked.superlink,
        "steps": [{"step": s.name, "ok": s.ok, "found": s.found, "remedy": s.remedy} for s in steps],
        **_counts(home),
    }
    start = None if is_locked(home.state.agent_lock_path) else typed("hospital", "start")
    emit_findings([*here, *found], beside, start, strict=strict, as_json=as_json, quiet=quiet)


def _counts(home: "NodeHome") -> dict[str, int | None]:
    """Counts of the quarantine; none where the rules cannot be read, which the findings say."""
    from sonoshare_shared.errors import SonoShareError  # noqa: PLC0415

    try:
        return counts_of(home)
    except SonoShareError:
        return dict.fromkeys(("quarantined", "older_rules", "other_policy"))


def _way(home: "NodeHome", superlink: str | None, root_certificate: Path | None) -> "Way | None":
    """The way to test: as asked, as last started, or as the invitation says; None where nobody knows it."""
    from sonoshare_client.courier.way import Way  # noqa: PLC0415
    from sonoshare_client.node.invitation import read_joined  # noqa: PLC0415
    from sonoshare_client.node.link import read_link  # noqa: PLC0415

    last, joined = read_link(home.state.link_path), read_joined(home)
    if last is None and joined is None and (superlink is None) != (root_certificate is None):
        raise click.UsageError("this node was never started: give both, --superlink and --root-certificate")
    known = last.superlink if last else joined.superlink if joined else superlink
    if known is None:
        return None
    authority = Path(last.root_certificate) if last else home.state.authority_path
    return Way(superlink or known, root_certificate or authority, home.node_key_path)


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
