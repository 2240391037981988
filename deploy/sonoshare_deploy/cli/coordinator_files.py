"""``sonoshare coordinator line`` and ``take``: hospitals without a line out, and what is carried back from them."""

from pathlib import Path

import click

from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.parameters import IDENTIFIER_NAME


@click.command(short_help="Say how a hospital is reached: network or files.")
@home_option
@click.option("--id", "hospital", type=IDENTIFIER_NAME, required=True, help="The hospital's id.")
@click.option("--by", type=click.Choice(["network", "files"]), required=True, help="files: by bundles on a stick.")
@json_option
def line(home: Path, hospital: str, by: str, *, as_json: bool) -> None:
    """Say how a hospital is reached. By files, its requests wait in outbox/ID until somebody carries them.

    Example: sonoshare coordinator line --home C --id west --by files
    """
    from sonoshare_server.consortium.members import read_members  # noqa: PLC0415
    from sonoshare_server.federation.carried import set_by_files  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.errors import InputError  # noqa: PLC0415

    folder = CoordinatorHome(home)
    if hospital not in read_members(folder):
        raise InputError(f"{hospital} is not admitted", remedy="see: sonoshare coordinator status")
    set_by_files(folder, hospital, files=by == "files")
    emit({"hospital": hospital, "line": by, "outbox": str(folder.outbox_path / hospital)}, as_json)


@click.command(short_help="Take in a reply that was carried back.")
@click.argument("reply", type=click.Path(path_type=Path, dir_okay=False))
@home_option
@json_option
def take(reply: Path, home: Path, *, as_json: bool) -> None:
    """Check the bundle REPLY and give it to the action that waits for it, now or when it is run again.

    Example: sonoshare coordinator take reply.bundle --home C
    """
    from sonoshare_server.federation.carried import take_reply  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    taken = take_reply(CoordinatorHome(home), reply)
    result = {"hospital": taken.hospital, "study": taken.study, "what": taken.what, "refused": taken.refused}
    emit(result, as_json)
