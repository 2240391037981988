"""``sonoshare hospital revoke``: a hospital takes a release back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.output import emit, is_quiet, json_option, quiet_option
from sonoshare_deploy.cli.parameters import IDENTIFIER_NAME, node_home_option

if TYPE_CHECKING:
    from rich.console import Console


@click.command(short_help="Take a release back, with this hospital's signature.")
@node_home_option
@click.option("--name", type=IDENTIFIER_NAME, required=True, help="Identifier of the release.")
@click.option("--reason", required=True, help="In words, for the public; nothing about a patient.")
@click.option("--manifest-digest", help="sha256 of its manifest.json, where this node's copy of the log lacks it.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file for the coordinator; NAME-revocation.dsse.json if absent.",
)
@quiet_option
@json_option
def revoke(
    *, home_path: Path, name: str, reason: str, manifest_digest: str | None, out: Path | None, as_json: bool
) -> None:
    """Sign that this hospital takes a release back; the node may run meanwhile, whatever it does.

    Send the file to the coordinator, who enters it into the log (coordinator release revoke --signed FILE). From then
    on the catalogue gives the pictures out no more, and whoever asks a fresh log sees it.

    Example: sonoshare hospital revoke --home N --name r1 --reason "withdrawn"
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.revoking import revocation_by  # noqa: PLC0415
    from sonoshare_shared.durable import write_atomically  # noqa: PLC0415

    now, home = datetime.now(UTC), NodeHome.open(home_path)
    signed = revocation_by(home, name, reason, now=now, manifest_digest=manifest_digest)
    path = out or Path(f"{name}-revocation.dsse.json")
    write_atomically(path, signed.envelope.to_bytes())
    result = {
        "release": name,
        "manifest_digest": signed.revocation.manifest_digest,
        "by": signed.revocation.by,
        "file": str(path),
        "logged": list(signed.logged),
    }

    def human(console: "Console") -> None:
        console.print(f"{name}: revocation signed by {home.hospital}, in {path}", markup=False, highlight=False)
        if not is_quiet():
            words = "next: send it to the coordinator, and tell the other hospitals"
            console.print(f"  {words}", markup=False, highlight=False)
        if signed.logged:
            console.print(f"  the log shows revocations by {', '.join(signed.logged)} already", markup=False)

    emit(result, as_json, human)
