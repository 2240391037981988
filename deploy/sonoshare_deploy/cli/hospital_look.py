"""``sonoshare hospital look``: a release beside the vault's patients, for the hospital's own eyes."""

from pathlib import Path

import click

from sonoshare_deploy.cli.output import emit, json_option


@click.command()
@click.argument("synthetic", metavar="SYNTHETIC_DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--home",
    "home_path",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The node's folder.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write; must not be in use.")
@json_option
def look(synthetic: Path, home_path: Path, out: Path, *, as_json: bool) -> None:
    """Write the true nearest pairs, scores and ROC of a release against this hospital's patients. NOT private.

    Nothing is charged, because nothing leaves. Never send the folder, and never decide about a release by it.
    """
    from sonoshare_client.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.own_eyes import WARNING, write_view  # noqa: PLC0415
    from sonoshare_client.vault import Vault  # noqa: PLC0415
    from sonoshare_client.vault_view import vault_view  # noqa: PLC0415

    with Vault(NodeHome.open(home_path)) as vault:
        view = vault_view(vault, synthetic)
    write_view(out, view)
    files = sorted(path.name for path in out.iterdir())
    emit({"files": files}, as_json, lambda console: console.print(f"{out}: {WARNING}", markup=False))
