"""``sonoshare fetch``: download a release and verify it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.output import emit, json_option, progress_console
from sonoshare_deploy.cli.releases import DEFAULT_SERVER
from sonoshare_deploy.cli.verify import Human, check
from sonoshare_shared.errors import VerificationError

if TYPE_CHECKING:
    from sonoshare_shared.protocol.release.sources import ReleaseSource

BUNDLED_ROSTER = "roster.dsse.json"


@contextmanager
def _source(server: str, token: str | None) -> Iterator["ReleaseSource"]:
    from sonoshare_shared.protocol.release.remote import HttpSource, connected  # noqa: PLC0415
    from sonoshare_shared.protocol.release.sources import FolderSource  # noqa: PLC0415

    if Path(server).is_dir():
        yield FolderSource(Path(server))
        return
    with connected(server, token) as client:
        yield HttpSource(client)


@click.command()
@click.argument("release")
@click.option(
    "--server",
    envvar="SONOSHARE_SERVER",
    default=DEFAULT_SERVER,
    show_default=True,
    help="The catalogue, or a folder of releases.",
)
@click.option("--token", envvar="SONOSHARE_TOKEN", help="Token of the data-use agreement.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--roster", "roster_file", type=click.Path(path_type=Path), help="Signed roster you trust.")
@click.option("--root", help="The consortium's root key (hexadecimal), if you have it from elsewhere.")
@json_option
def command(
    *,
    release: str,
    server: str,
    token: str | None,
    out: Path,
    roster_file: Path | None,
    root: str | None,
    as_json: bool,
) -> int:
    """Download RELEASE into the folder --out, and verify it; run it again to go on after an interruption.

    Without --roster (and --root) the release is checked only against the roster that came with it: good against
    accidents, not against a dishonest catalogue.
    """
    # Imported here: `fetch --help` needs none of it.
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    from sonoshare_shared.protocol.release.fetch import fetch_release  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=progress_console(), disable=as_json, transient=True) as bar:
        task = bar.add_task("fetching", total=None)

        def verified(folder: Path) -> tuple[dict[str, object], Human]:
            return check(folder, roster_file or folder / BUNDLED_ROSTER, log_head=None, root=root)

        try:
            with _source(server, token) as source:
                result, human = fetch_release(
                    source,
                    release,
                    out,
                    verified,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                )
        except VerificationError as error:
            if as_json:
                emit({"verified": False, "cause": error.cause, "message": error.message}, as_json)
            raise
    pinned = roster_file is not None or root is not None
    emit(result | {"out": str(out), "roster_pinned": pinned}, as_json, human)
    if not pinned:
        click.echo(
            "note: checked against the roster inside the release only; get the consortium's and verify", err=True
        )
    return 0
