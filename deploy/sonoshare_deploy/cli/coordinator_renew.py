"""``sonoshare coordinator renew``: the server's certificate, or the roster, for another while."""

from datetime import UTC, datetime
from pathlib import Path

import click

from sonoshare_deploy.cli.coordinator_members import root_key_option
from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.output import emit, json_option


@click.command(short_help="Renew the server's certificate, or the roster.")
@home_option
@click.option("--host", "hosts", multiple=True, help="Another name or address of this server; repeatable.")
@click.option("--new-key", is_flag=True, help="Give the server a new TLS key too.")
@click.option("--roster", is_flag=True, help="Sign the roster anew instead; needs the root key.")
@root_key_option
@json_option
def renew(
    home: Path, *, hosts: tuple[str, ...], new_key: bool, roster: bool, root_key: Path | None, as_json: bool
) -> None:
    """Renew the server's TLS certificate; one that runs takes it up within seconds, and nobody is disconnected.

    A running coordinator does this by itself a month before the end. With --roster, the roster is signed anew for
    another year: send it to all hospitals.

    Example: sonoshare coordinator renew --home C --host fed.example.org
    """
    from sonoshare_deploy import certificates  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_server.consortium.admission import renew_roster  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    folder = CoordinatorHome(home)
    if roster:
        if hosts or new_key:
            raise click.UsageError("--roster renews no certificate: leave out --host and --new-key")
        signed = renew_roster(folder, root_key=root_key)
        until, what = signed.expires, {"roster_version": signed.version, "roster": str(folder.roster_path)}
    else:
        until = certificates.renew(folder, hosts=hosts, new_key=new_key).until
        what = {"certificate": str(folder.certificate_path)}
    days = (until - datetime.now(UTC)).days
    emit(what | {"until": until.isoformat(timespec="seconds"), "days_left": days}, as_json)
