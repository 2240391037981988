"""``sonoshare demo``: a whole consortium on this machine, end to end."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.device import device_option, told_device
from sonoshare_deploy.cli.output import emit, insist, json_option, progress_console, quiet_option
from sonoshare_deploy.cli.parameters import FiniteRange

if TYPE_CHECKING:
    from sonoshare_shared.protocol.documents.plan import Profile

ANY_PORT = 0


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder with labels.csv, or BUS-BRA; else phantoms.")
@click.option("--hospitals", default=3, show_default=True, type=click.IntRange(1, 8), help="Hospitals that take part.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="Rounds of training.")
@click.option("--epsilon", default=8.0, show_default=True, type=FiniteRange(1.1, 100), help="Budget of every hospital.")
@click.option(
    "--images", default=600, show_default=True, type=click.IntRange(32, 100_000), help="Images of the release."
)
@click.option(
    "--profile", default="small", show_default=True, type=click.Choice(["tiny", "small"]), help="Size of the model."
)
@click.option("--work", type=click.Path(path_type=Path), help="Folder for everything; work/demo-<time> if absent.")
@click.option(
    "--serve",
    "port",
    type=click.IntRange(ANY_PORT, 65535),
    is_flag=False,
    flag_value=ANY_PORT,
    metavar="[PORT]",
    help="Keep the catalogue up at the end, on this port or on a free one.",
)
@device_option
@quiet_option
@json_option
def command(
    *,
    data: Path | None,
    hospitals: int,
    rounds: int,
    epsilon: float,
    images: int,
    profile: "Profile",
    work: Path | None,
    port: int | None,
    device: str,
    as_json: bool,
) -> int:
    """Keys, real SuperLink and SuperNodes, intake, training under differential privacy, audits, release, verification.

    Exit status 0 if a release was published, 1 if the hospitals refused it or something failed.

    Example: sonoshare demo --hospitals 3 --rounds 3
    """
    from sonoshare_deploy.demo.display import Display  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_deploy.demo.journey import DemoSettings, Journey  # noqa: PLC0415
    from sonoshare_deploy.demo.memory import PeakMemory  # noqa: PLC0415
    from sonoshare_deploy.demo.result import demo_result, print_result  # noqa: PLC0415
    from sonoshare_deploy.demo.utility import utility_of  # noqa: PLC0415
    from sonoshare_deploy.processes import Supervisor, end_on_signals, wait_until_interrupted  # noqa: PLC0415
    from sonoshare_shared.science.labels import read_labels  # noqa: PLC0415

    # Whatever ends the demonstration, no process is left behind.
    end_on_signals()
    work = (work or Path("work") / f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}").absolute()
    where, _ = told_device(device)
    settings = DemoSettings(work, data, hospitals, rounds, epsilon, images, profile, port or ANY_PORT, where)
    with PeakMemory() as peak, Display(progress_console()) as display, Supervisor(work / "logs") as supervisor:
        journey = Journey(settings, display, supervisor)
        journey.run()
        with display.stage("utility", "Utility: classifier on held-out patients (demonstration only)"):
            drawn = read_labels(journey.bundle or journey.candidate)
            utility = utility_of(drawn, journey.study.plan, journey.nodes.values(), where)
        result = demo_result(journey, utility, peak)
        emit(result, as_json, lambda console: print_result(console, result, journey.said))
        if port is not None and journey.addresses is not None:
            display.say(f"The catalogue is at {journey.addresses.catalogue} until you press Ctrl-C.")
            wait_until_interrupted(supervisor)
    if journey.refusal is not None:
        insist(f"error: {journey.refusal}")
    return 0 if journey.bundle is not None else 1
