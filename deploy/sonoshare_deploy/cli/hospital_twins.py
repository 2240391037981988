"""``sonoshare hospital twins``: pairs of patients who look like one person, and what a person decides about them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.device import node_device_option, told_device
from sonoshare_deploy.cli.output import emit, json_option, quiet_option
from sonoshare_deploy.cli.parameters import node_home_option

if TYPE_CHECKING:
    from rich.console import Console


@click.command(short_help="List pairs of patients who look like one person.")
@node_home_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write each pair side by side here (PNG)."
)
@click.option(
    "--two-people",
    "apart",
    multiple=True,
    type=click.IntRange(1),
    metavar="PAIR",
    help="Decide: this pair is two people.",
)
@node_device_option
@quiet_option
@json_option
def twins(home_path: Path, out: Path | None, apart: tuple[int, ...], *, device: str | None, as_json: bool) -> None:
    """List pairs of patients who look like one person; compare what was not compared yet.

    Patients of undecided pairs are held back: neither trained on nor audited with. (Of a patient who is in several
    pairs only the most alike is held back too.) Look at the pictures (--out). Two people: say so with --two-people.
    One person, and your records say so too: 'sonoshare hospital forget' one identifier, give both rows one patient in
    labels.csv, and ingest again.

    Example: sonoshare hospital twins --home NODE --out LOOK
    """
    from sonoshare_client.intake.twins import compare_new, draw_pair  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.vault.store import Vault  # noqa: PLC0415

    home = NodeHome.open(home_path)
    where, said = told_device(device or home.device)
    with Vault(home) as vault:
        with vault.writing() as writer:
            compare_new(vault, writer, device=where)
            for number in apart:
                writer.two_people(number)
        found, held_back = vault.twins(), len(vault.held_back())
        uncompared = len(vault.images()) - vault.compared()
        if out is not None and found:
            out.mkdir(parents=True, exist_ok=True, mode=0o700)
            for twin in found:
                draw_pair(vault, twin, out / f"pair-{twin.number}.png")
    pairs = [{"pair": twin.number, "score": round(twin.score, 3), "two_people": twin.two_people} for twin in found]

    def human(console: "Console") -> None:
        for pair in pairs:
            state = "two people" if pair["two_people"] else "undecided"
            console.print(f"pair {pair['pair']}: score {pair['score']:.2f}, {state}", highlight=False)
        console.print(f"{held_back} patients are held back", highlight=False)
        if uncompared:
            console.print(
                f"NOT FULLY COMPARED: {uncompared} pictures, whose patients join no study: run this again to go on",
                highlight=False,
            )
        if out is not None and not pairs:
            console.print(f"no pairs: nothing was drawn, and {out} was not made", markup=False, highlight=False)
        elif out is not None:
            console.print(f"pictures in {out}: patient data in the clear. Look, then delete.", markup=False)

    emit({"twins": pairs, "held_back": held_back, "uncompared": uncompared, "device": said}, as_json, human)
