"""``sonoshare hospital|coordinator backup|restore``: a role's folder in one encrypted archive, and back."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.parameters import node_home_option

_out_option: Final = click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The archive; not there yet."
)
_from_option: Final = click.option(
    "--from",
    "archive",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The archive.",
)
_passphrase_option: Final = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File whose first line is the passphrase; asked for if absent.",
)


def _passphrase(file: Path | None, *, new: bool) -> str:
    from sonoshare_shared.backup.sealing import checked_passphrase, read_passphrase  # noqa: PLC0415
    from sonoshare_shared.errors import InputError  # noqa: PLC0415 - keeps --help fast, here and below

    if file is not None:
        return read_passphrase(file)
    if not sys.stdin.isatty():
        raise InputError("nobody is there to type the passphrase", remedy="name its file: --passphrase-file FILE")
    return checked_passphrase(click.prompt("passphrase", hide_input=True, confirmation_prompt=new, err=True))


def _outside(home: Path, out: Path) -> None:
    from sonoshare_shared.errors import InputError  # noqa: PLC0415

    if out.resolve().is_relative_to(home.resolve()):
        raise InputError("the archive would lie in the folder that it is of", remedy="write it to another disk")


@click.command("backup", short_help="Write the node's folder into one encrypted archive.")
@node_home_option
@_out_option
@_passphrase_option
@json_option
def hospital_backup(home_path: Path, out: Path, passphrase_file: Path | None, *, as_json: bool) -> None:
    """Write the node's folder into one encrypted archive, while the node runs, and read it again.

    It holds every key and every picture: keep it, and its passphrase elsewhere, as you keep the node itself. A vault
    key that lies outside of the folder is not in it.

    Example: sonoshare hospital backup --home NODE --out node.sono
    """
    from sonoshare_client.node.backup import KIND, node_members  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_shared.backup.archive import write_archive  # noqa: PLC0415

    home = NodeHome.open(home_path)
    _outside(home.path, out)
    written = write_archive(out, node_members(home), KIND, _passphrase(passphrase_file, new=True))
    elsewhere = not home.vault_key_path.resolve().is_relative_to(home.path.resolve())
    result: dict[str, object] = {"archive": str(out), "files": len(written.files), "bytes": written.size}
    emit(result | {"not_in_it": str(home.vault_key_path) if elsewhere else "nothing"}, as_json)


@click.command("restore", short_help="Make a node's folder from an archive.")
@node_home_option
@_from_option
@_passphrase_option
@json_option
def hospital_restore(home_path: Path, archive: Path, passphrase_file: Path | None, *, as_json: bool) -> None:
    """Make a node's folder from an archive: whole and checked, or not at all.

    Restore the newest backup. If the hospital was charged after it, the node refuses to train as soon as it is shown
    the log, and stays refusing until its newest ledger is back: what was spent is never forgotten.

    Example: sonoshare hospital restore --home NODE --from node.sono
    """
    from sonoshare_client.node.backup import KIND, node_databases  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.node.private_folder import private_folder, require_free  # noqa: PLC0415
    from sonoshare_client.own_eyes.overview import ledger_overview  # noqa: PLC0415
    from sonoshare_shared.backup.archive import read_archive  # noqa: PLC0415
    from sonoshare_shared.backup.folder import require_alone  # noqa: PLC0415
    from sonoshare_shared.errors import LedgerError  # noqa: PLC0415

    require_free(home_path)
    passphrase = _passphrase(passphrase_file, new=False)
    with private_folder(home_path, durable=True) as building:
        found = read_archive(archive, KIND, passphrase, building)
        restored = NodeHome.open(building)
        require_alone(building, node_databases(restored))
        overview = ledger_overview(restored, lambda: datetime.now(UTC))
        if not overview.intact:
            raise LedgerError(overview.broken)
    result = {
        "home": str(home_path),
        "files": len(found.files),
        "ledger_entries": len(overview.entries),
        "ledger_until": overview.entries[-1].time[:10],
        "ledger_head": overview.head,
        "next": "if charges were made after this backup, the node refuses to train: bring back its newest ledger",
    }
    emit(result, as_json)


@click.command("backup", short_help="Write the coordinator's folder into one encrypted archive.")
@home_option
@_out_option
@_passphrase_option
@json_option
def coordinator_backup(home: Path, out: Path, passphrase_file: Path | None, *, as_json: bool) -> None:
    """Write the coordinator's folder into one encrypted archive, while it runs, and read it again.

    It holds every key that lies in the folder. A catalogue's database or releases that lie elsewhere are not in it.

    Example: sonoshare coordinator backup --home C --out c.sono
    """
    from sonoshare_server.backup import KIND, coordinator_members  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.backup.archive import write_archive  # noqa: PLC0415

    folder = CoordinatorHome(home)
    _outside(home, out)
    written = write_archive(out, coordinator_members(folder), KIND, _passphrase(passphrase_file, new=True))
    emit({"archive": str(out), "files": len(written.files), "bytes": written.size}, as_json)


@click.command("restore", short_help="Make a coordinator's folder from an archive.")
@home_option
@_from_option
@_passphrase_option
@json_option
def coordinator_restore(home: Path, archive: Path, passphrase_file: Path | None, *, as_json: bool) -> None:
    """Make a coordinator's folder from an archive: whole and checked, or not at all.

    Restore the newest backup. A coordinator whose log is older than what a hospital holds stops before it signs
    another: then put the newest log.jsonl in its place.

    Example: sonoshare coordinator restore --home C --from c.sono
    """
    from sonoshare_server.backup import KIND, coordinator_databases  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.backup.archive import read_archive  # noqa: PLC0415
    from sonoshare_shared.backup.folder import require_alone  # noqa: PLC0415
    from sonoshare_shared.durable import appearing  # noqa: PLC0415

    passphrase = _passphrase(passphrase_file, new=False)
    with appearing(home.absolute(), durable=True, mode=0o700) as building:
        found = read_archive(archive, KIND, passphrase, building)
        restored = CoordinatorHome(building)
        require_alone(building, coordinator_databases(restored))
        entries = len(restored.log())
    emit({"home": str(home), "files": len(found.files), "log_entries": entries}, as_json)
