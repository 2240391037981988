"""``sonoshare catalogue``: the catalogue apart from the coordinator's agents.

Everything is imported inside the commands, so that ``--help`` is fast.
"""

from pathlib import Path

import click

from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.private import Private

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Private, verbs=("serve",))
def command() -> None:
    """Serve releases apart from the coordinator."""


@command.command()
@click.option("--home", type=click.Path(exists=True, file_okay=False, path_type=Path), help="The coordinator's folder.")
@click.option("--roster", type=_FILE, help="The signed roster, in the folder's place.")
@click.option(
    "--log", type=_FILE, help="The log under a signed head, in the folder's place; read anew when it changes."
)
@click.option("--title", default="SonoShare", show_default=True, help="Name of the consortium, in the folder's place.")
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="host:port.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes.")
@json_option
def serve(
    *, home: Path | None, roster: Path | None, log: Path | None, title: str, listen: str, workers: int, as_json: bool
) -> None:
    r"""Serve the catalogue until interrupted, without SuperLink and agents.

    \b
    Over the coordinator's folder, which may serve at the same time:
      sonoshare catalogue serve --home C --workers 2
    On a machine that holds no key, with DATABASE_URL and SONOSHARE_BLOBS set:
      sonoshare catalogue serve --roster roster.json --log log.json

    Example: sonoshare catalogue serve
    """
    from sonoshare_deploy.addresses import endpoint  # noqa: PLC0415
    from sonoshare_deploy.catalogue_service import CataloguePlace  # noqa: PLC0415
    from sonoshare_server.catalogue.workers import serve as serve_until_interrupted  # noqa: PLC0415

    if (home is None) == (roster is None):
        raise click.UsageError("give either --home, or --roster with --log")
    host, port = endpoint(listen)
    place = CataloguePlace(home, roster, log, title, 1 / workers)

    def ready(address: str) -> None:
        emit({"catalogue": address, "workers": workers}, as_json)

    serve_until_interrupted(place, host, port, workers=workers, ready=ready)
