"""``sonoshare coordinator check``: what a coordinator and its machine need, looked at in one go."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from sonoshare_deploy.cli.check_output import emit_findings, strict_option
from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.output import json_option
from sonoshare_deploy.cli.pasted import at_home, pasted


@click.command(short_help="Look at machine, ports, certificates, keys, members.")
@home_option
@click.option("--fleet", default="127.0.0.1:9092", show_default=True, help="As for start; where it does not run.")
@click.option("--control", default="127.0.0.1:9093", show_default=True, help="As for start; where it does not run.")
@click.option("--catalogue", default="127.0.0.1:8080", show_default=True, help="As for start; where it does not run.")
@strict_option
@click.option("--quiet", "-q", is_flag=True, help="Print only what is not well.")
@json_option
def check(home: Path, fleet: str, control: str, catalogue: str, *, strict: bool, quiet: bool, as_json: bool) -> None:
    """Look at the machine, the folder's permissions, ports, certificates, keys, the log, the database and the members.

    One line each: ok, warn or fail, with the problem and the remedy. Nothing is started, written or asked of a
    hospital. Exit 1 on a failure, with --strict on a warning too.

    Example: sonoshare coordinator check --home C
    """
    from sonoshare_deploy.addresses import Addresses  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_deploy.preflight.coordinator_facts import coordinator_findings  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.locks import is_locked  # noqa: PLC0415

    usual = Addresses(fleet=fleet, control=control, catalogue=catalogue)
    folder = CoordinatorHome(home)
    findings = coordinator_findings(folder, usual, datetime.now(UTC), partial(at_home, home))
    ports = ("--fleet", fleet, "--control", control, "--catalogue", catalogue)
    start = None if is_locked(folder.start_lock_path) else pasted("coordinator", "start", "--home", home, *ports)
    emit_findings(findings, {}, start, strict=strict, as_json=as_json, quiet=quiet)
