"""``sonoshare export``: a release in another format, after it was verified."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.verify import check_release, trusted

if TYPE_CHECKING:
    from sonoshare_shared.science.export.pictures import Source

FORMATS: Final = ("parquet", "dicom")


@click.command()
@click.argument("path", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--as", "form", required=True, type=click.Choice(FORMATS), help="Format to write.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--roster", "roster_file", type=click.Path(path_type=Path), help="Signed roster you trust.")
@click.option("--log-head", type=click.Path(path_type=Path), help="Fresh log (GET /api/v1/log), to see revocations.")
@click.option("--root", help="The consortium's root key (hexadecimal), if you have it from elsewhere.")
@click.option("--server", envvar="SONOSHARE_SERVER", help="Catalogue you have logged in to.")
@json_option
def command(
    *,
    path: Path,
    form: str,
    out: Path,
    roster_file: Path | None,
    log_head: Path | None,
    root: str | None,
    server: str | None,
    as_json: bool,
) -> int:
    """Write the release in DIR as Parquet shards or as DICOM objects; it is verified first, as `verify` does.

    What is written holds the very pictures that the hospitals signed. It is not signed itself: keep the release.

    Example: sonoshare export r1 --as parquet --out r1-parquet
    """
    roster, key = trusted(roster_file, root, server)
    verified = check_release(path, roster, log_head=log_head, root=key)
    from sonoshare_shared.science.export.pictures import source_in  # noqa: PLC0415 - keeps --help fast

    source = source_in(path, verified.manifest)
    paths = _writer(form)(source, out)
    counts = {"images": len(source.kept), "files": len(paths)}
    emit({"release": verified.manifest.release, "format": form, **counts}, as_json)
    return 0


def _writer(form: str) -> "Callable[[Source, Path], list[str]]":
    if form == "parquet":
        from sonoshare_shared.science.export.parquet import export_parquet  # noqa: PLC0415

        return export_parquet
    from sonoshare_shared.science.export.dicom import export_dicom  # noqa: PLC0415

    return export_dicom
