"""``sonoshare hospital join``: from an invitation to a node that only has to be admitted."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.device import DEVICE_WORD
from sonoshare_deploy.cli.output import emit, is_quiet, json_option, quiet_option
from sonoshare_deploy.cli.parameters import node_home_option
from sonoshare_deploy.cli.pasted import pasted
from sonoshare_shared.science.device_word import AUTO

if TYPE_CHECKING:
    from rich.console import Console


@click.command(short_help="Make the node from an invitation.")
@click.argument("invitation", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@node_home_option
@click.option("--root-fingerprint", help="Of the consortium's root key, as told by telephone; else compare it after.")
@click.option("--patients", type=click.IntRange(min=1), help="Trained patients to declare: a public, round number.")
@click.option("--vault-key", type=click.Path(path_type=Path, dir_okay=False), help="Where the vault key goes, or lies.")
@click.option("--device", type=DEVICE_WORD, default=AUTO, show_default=True, help="Where the node computes.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Request to write; ID-request.json.")
@quiet_option
@json_option
def join(
    invitation: Path,
    home_path: Path,
    *,
    root_fingerprint: str | None,
    patients: int | None,
    vault_key: Path | None,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make the node's folder from the file INVITATION: keys, an empty vault, the policy, the coordinator's address.

    Writes a request with the public keys: send it to the coordinator, and tell the fingerprint by telephone. Run again,
    it writes the request again.

    Example: sonoshare hospital join west.json --home west --patients 150
    """
    from sonoshare_client.node import invitation as joining  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.policy import policy_for  # noqa: PLC0415
    from sonoshare_shared.durable import write_atomically  # noqa: PLC0415
    from sonoshare_shared.protocol.documents.invitation import Invitation  # noqa: PLC0415
    from sonoshare_shared.protocol.keys import PublicKey  # noqa: PLC0415
    from sonoshare_shared.protocol.signed_files import INVITATION, read_signed  # noqa: PLC0415

    said = Invitation.opened(read_signed(invitation, INVITATION))
    home, request = joining.join(
        home_path,
        said,
        now=datetime.now(UTC),
        root_fingerprint=root_fingerprint,
        policy=None if patients is None else policy_for(patients),
        vault_key=vault_key,
        device=device,
    )
    path = out or Path(f"{home.hospital}-request.json")
    write_atomically(path, request.to_bytes())
    root, own = PublicKey.from_hex(said.root_key).fingerprint, home.identity().public.fingerprint
    result = {
        "id": home.hospital,
        "consortium": said.consortium,
        "request": str(path),
        "fingerprint": own,
        "root_fingerprint": root,
        "root_compared": root_fingerprint is not None,
        "superlink": said.superlink,
    }

    def human(console: "Console") -> None:
        compare = "as told" if root_fingerprint else "NOT COMPARED: ask the coordinator for it by telephone"
        texts = (
            f"{home.hospital}: node of consortium {said.consortium} in {home.path}",
            f"root key   fingerprint {root} ({compare})",
            f"request    {path}: send it to the coordinator",
            f"tell them  fingerprint {own}, by telephone",
        )
        steps = (
            f"meanwhile: read {home.policy_path}, then {pasted('hospital', 'ingest', 'FOLDER', '--home', home_path)}",
            "next, with the roster that comes back: "
            + pasted("hospital", "enrol", "--home", home_path, "--roster", "roster.dsse.json"),
            f"then:      {pasted('hospital', 'check', '--home', home_path)}",
            f"then:      {pasted('hospital', 'start', '--home', home_path)}",
        )
        for text in texts if is_quiet() else (*texts, *steps):
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    emit(result, as_json, human)
