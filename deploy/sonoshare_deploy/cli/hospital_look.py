"""``sonoshare hospital look``: a release or a candidate beside the vault's patients, for the hospital's own eyes."""

from dataclasses import replace
from pathlib import Path

import click

from sonoshare_deploy.cli.device import node_device_option, told_device
from sonoshare_deploy.cli.output import emit, json_option, quiet_option
from sonoshare_deploy.cli.parameters import node_home_option


@click.command(short_help="See synthetic images beside the own patients.")
@click.argument(
    "synthetic", metavar="[SYNTHETIC_DIR]", required=False, type=click.Path(path_type=Path, file_okay=False)
)
@click.option("--study", help="Instead of a folder: the newest candidate that the node audited in this study.")
@node_home_option
@click.option(
    "--shortcut", is_flag=True, help="Also: can a classifier tell these images from this hospital's? Minutes."
)
@node_device_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write; must not be in use.")
@quiet_option
@json_option
def look(
    *,
    synthetic: Path | None,
    study: str | None,
    home_path: Path,
    shortcut: bool,
    device: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Write the true nearest pairs, scores and ROC of synthetic images against this hospital's patients. NOT private.

    The images are those of SYNTHETIC_DIR, or with --study those of the newest candidate, which the node keeps until
    its release is signed.

    Nothing is charged, because nothing leaves. Never send the folder, and never decide about a release by it.

    Example: sonoshare hospital look r1 --home NODE --out LOOK
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.private_folder import require_free  # noqa: PLC0415
    from sonoshare_client.own_eyes.kept_pictures import kept_pictures  # noqa: PLC0415
    from sonoshare_client.own_eyes.vault_view import vault_view  # noqa: PLC0415
    from sonoshare_client.own_eyes.view import WARNING, write_view  # noqa: PLC0415
    from sonoshare_client.vault.store import Vault  # noqa: PLC0415

    if (synthetic is None) == (study is None):
        raise click.UsageError("name either a folder of synthetic images or --study")
    require_free(out)
    home = NodeHome.open(home_path)
    folder = synthetic or kept_pictures(home, str(study))
    name = folder.name if synthetic else f"Candidate {folder.name[:12]} of study {study}"
    where, said = told_device(device or home.device)
    with Vault(home) as vault:
        view = vault_view(vault, folder, name, where)
        if shortcut:
            from sonoshare_client.own_eyes.told_apart import told_apart  # noqa: PLC0415 - torch

            view = replace(view, told_apart=told_apart(vault, folder, device=where))
    write_view(out, view)
    files = sorted(path.name for path in out.iterdir())
    emit({"files": files, "device": said}, as_json, lambda console: console.print(f"{out}: {WARNING}", markup=False))
