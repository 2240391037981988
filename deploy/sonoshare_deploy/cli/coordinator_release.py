"""``sonoshare coordinator release``: from a trained study to a published release, and back.

Everything is imported inside the commands, so that ``--help`` is fast.
"""

from collections.abc import Callable
from pathlib import Path

import click

from sonoshare_deploy.cli.action_words import ActionWords
from sonoshare_deploy.cli.device import device_option, told_device
from sonoshare_deploy.cli.order import InOrder
from sonoshare_deploy.cli.output import emit, json_option, next_step, progress_console, quiet_option
from sonoshare_deploy.cli.parameters import IDENTIFIER_NAME, FiniteRange
from sonoshare_deploy.cli.pasted import at_home, pasted

home_option = click.option(
    "--home",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The coordinator's folder.",
)


@click.group("release", cls=InOrder, verbs=("create", "draw", "work", "publish", "unpublish", "revoke"))
def command() -> None:
    """Create, publish and revoke releases."""


def _drawing_options(function: Callable[..., None]) -> Callable[..., None]:
    """Options of the two verbs that draw."""
    options = (
        home_option,
        click.option(
            "--study", "study_name", metavar="STUDY", type=IDENTIFIER_NAME, required=True, help="A trained study."
        ),
        click.option("--name", type=IDENTIFIER_NAME, required=True, help="Identifier of the release."),
        click.option(
            "--workers",
            type=click.IntRange(0, 256),
            default=1,
            show_default=True,
            help="Processes that draw here; 0 with --shared waits for others.",
        ),
        click.option("--shared", is_flag=True, help="Others draw along by the database of SONOSHARE_DRAWING."),
        click.option(
            "--recheck",
            type=click.IntRange(0, 10_000),
            default=2,
            show_default=True,
            help="Shards of others that are drawn here again, with --shared.",
        ),
        click.option(
            "--lease-seconds",
            type=FiniteRange(min=1),
            default=60.0,
            show_default=True,
            help="A worker that is silent for so long is taken for dead.",
        ),
        device_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command(name="create", short_help="Draw, have audited, sign and seal a candidate.")
@_drawing_options
@click.option(
    "--utility",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Figures for the utility report, from: sonoshare evaluate tstr --synthetic CANDIDATE ... --json",
)
@click.option("--utility-note", default="", help="How they were measured, by whom, on whose images.")
@quiet_option
@json_option
def create_release(
    *,
    home: Path,
    study_name: str,
    name: str,
    workers: int,
    shared: bool,
    recheck: int,
    lease_seconds: float,
    device: str,
    utility: Path | None,
    utility_note: str,
    as_json: bool,
) -> None:
    """Draw a candidate, have every hospital audit it, and if all pass, have it signed and sealed.

    Example: sonoshare coordinator release create --home C --study s1 --name r1
    """
    from sonoshare_deploy.coordinator import control_of, now, pipeline  # noqa: PLC0415
    from sonoshare_deploy.processes import end_on_signals  # noqa: PLC0415
    from sonoshare_deploy.release_workers import Crew, draw_release  # noqa: PLC0415
    from sonoshare_server.consortium.registration import register_nodes  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_server.queue.wanted import want  # noqa: PLC0415
    from sonoshare_server.release.figures import read_measurements  # noqa: PLC0415
    from sonoshare_server.release.pipeline import facts_for  # noqa: PLC0415

    end_on_signals()
    _require_drawers(workers, shared=shared)
    figures = () if utility is None else read_measurements(utility)
    folder = CoordinatorHome(home)
    this = folder.study(study_name)
    want(this, "run")  # refuses a study that was cancelled or retired
    this.require_trained()
    where, words = told_device(device)
    register_nodes(folder, control_of(folder))
    console = progress_console()
    waits = ActionWords(this.events_path, f"release {name}", say=console.print)
    steps = pipeline(folder, this, name, watch=waits)
    draw_release(steps, Crew(workers, lease_seconds, where, shared, recheck), console, waits=waits)
    with console.status(waits.first) as shown:
        waits.show = shown.update
        said = steps.audit()
        facts = facts_for(folder, steps.study, now(), utility=figures, utility_note=utility_note)
        bundle = steps.finish(facts)
    verdicts = {hospital: statement.predicate.verdict for hospital, statement in said.items()}
    emit({"release": name, "bundle": str(bundle), "verdicts": verdicts, "device": words}, as_json)
    next_step(at_home(home, "coordinator", "release", "publish", "--name", name))


@command.command(name="draw", short_help="Draw a candidate and stop.")
@_drawing_options
@quiet_option
@json_option
def draw_only(
    *,
    home: Path,
    study_name: str,
    name: str,
    workers: int,
    shared: bool,
    recheck: int,
    lease_seconds: float,
    device: str,
    as_json: bool,
) -> None:
    """Draw a candidate and stop; the same command, started again or elsewhere on the same folder, shares the work.

    Example: sonoshare coordinator release draw --home C --study s1 --name r1
    """
    from sonoshare_deploy.coordinator import pipeline  # noqa: PLC0415
    from sonoshare_deploy.release_workers import Crew, draw_release  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    _require_drawers(workers, shared=shared)
    folder = CoordinatorHome(home)
    this = folder.study(study_name)
    where, words = told_device(device)
    steps = pipeline(folder, this, name)
    draw_release(steps, Crew(workers, lease_seconds, where, shared, recheck), progress_console())
    images = steps.study.plan.release.images
    emit({"release": name, "candidate": str(steps.folder), "images": images, "device": words}, as_json)
    next_step(at_home(home, "coordinator", "release", "create", "--study", study_name, "--name", name))


def _require_drawers(workers: int, *, shared: bool) -> None:
    if workers == 0 and not shared:
        raise click.UsageError("--workers 0 draws nothing here: it needs --shared, by which others draw")


@command.command(short_help="Draw along with a coordinator elsewhere.")
@click.option("--name", type=IDENTIFIER_NAME, required=True, help="Identifier of the release.")
@click.option(
    "--coordinator-key",
    "key",
    metavar="KEY",
    required=True,
    help="The coordinator's public key, as it was told to you.",
)
@click.option(
    "--bases",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of imported bases, where the plan takes one that does not ship.",
)
@click.option(
    "--lease-seconds",
    type=FiniteRange(min=1),
    default=60.0,
    show_default=True,
    help="Silent for so long, this worker is taken for dead.",
)
@device_option
@quiet_option
@json_option
def work(*, name: str, key: str, bases: Path | None, lease_seconds: float, device: str, as_json: bool) -> None:
    """Draw along with a coordinator elsewhere, by the database of SONOSHARE_DRAWING alone, until nothing is missing.

    Example: sonoshare coordinator release work --name r1 --coordinator-key KEY
    """
    from sonoshare_deploy.drawing_along import draw_along  # noqa: PLC0415
    from sonoshare_server.release.workers import Part  # noqa: PLC0415
    from sonoshare_shared.protocol.keys import PublicKey  # noqa: PLC0415
    from sonoshare_shared.science.model.base import WEIGHTS  # noqa: PLC0415

    where, words = told_device(device)
    coordinator = PublicKey.from_hex(key.strip().lower())
    part = Part(WEIGHTS if bases is None else bases, where)
    drawn = draw_along(name, coordinator, part, lease_seconds=lease_seconds, console=progress_console())
    emit({"release": name, "shards": drawn, "device": words}, as_json)


@command.command()
@home_option
@click.option("--name", type=IDENTIFIER_NAME, required=True, help="Identifier of the release.")
@quiet_option
@json_option
def publish(home: Path, name: str, as_json: bool) -> None:
    """Verify a sealed release once more and show it in the catalogue.

    Example: sonoshare coordinator release publish --home C --name r1
    """
    from sonoshare_deploy.addresses import Addresses  # noqa: PLC0415
    from sonoshare_server.consortium.publication import publish_release  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    folder = CoordinatorHome(home)
    publish_release(folder, name)
    emit({"release": name, "published": True}, as_json)
    if Addresses.running(folder):
        next_step(pasted("releases", "--server", Addresses.read(folder).catalogue))


@command.command(short_help="Take a release off the catalogue's list.")
@home_option
@click.option("--name", type=IDENTIFIER_NAME, required=True, help="Identifier of the release.")
@json_option
def unpublish(home: Path, name: str, as_json: bool) -> None:
    """Take a release off the catalogue's list; nothing is said against it, and it can be published again.

    Example: sonoshare coordinator release unpublish --home C --name r1
    """
    from sonoshare_server.consortium.publication import unpublish_release  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    unpublish_release(CoordinatorHome(home), name)
    emit({"release": name, "published": False}, as_json)


@command.command(short_help="Take a release back for good.")
@home_option
@click.option("--name", type=IDENTIFIER_NAME, help="Identifier of the release.")
@click.option("--reason", help="In words, for the public.")
@click.option(
    "--signed",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A hospital's revocation (hospital revoke), in the place of --name and --reason.",
)
@json_option
def revoke(home: Path, *, name: str | None, reason: str | None, signed: Path | None, as_json: bool) -> None:
    """Take a release back: the catalogue shows it at once, and fresh verification fails.

    This waits for nobody: a study may run meanwhile.

    Example: sonoshare coordinator release revoke --home C --signed FILE
    """
    from sonoshare_deploy.revoking import accept_revocation  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_server.consortium.publication import revoke_release  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    folder = CoordinatorHome(home)
    if signed is not None and name is None and reason is None:
        taken = accept_revocation(folder, signed)
        emit({"release": taken.release, "revoked": True, "by": taken.by}, as_json)
    elif signed is None and name is not None and reason is not None:
        revoke_release(folder, name, reason)
        emit({"release": name, "revoked": True, "by": "coordinator"}, as_json)
    else:
        raise click.UsageError("give --name and --reason, or a hospital's file: --signed FILE")
