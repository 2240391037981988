"""``sonoshare coordinator study``: from a plan to a trained adapter.

Everything is imported inside the commands, so that ``--help`` is fast.
"""

from pathlib import Path
from typing import Any

import click

from sonoshare_deploy.cli.action_words import ActionWords
from sonoshare_deploy.cli.coordinator_queue import cancel, list_studies, propose, retire, stop
from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.coordinator_status import study_status
from sonoshare_deploy.cli.device import device_option, told_device
from sonoshare_deploy.cli.order import InOrder
from sonoshare_deploy.cli.output import emit, json_option, next_step, progress_console, quiet_option
from sonoshare_deploy.cli.parameters import IDENTIFIER_NAME, PROFILE, FiniteRange
from sonoshare_deploy.cli.pasted import at_home
from sonoshare_deploy.cli.progress import counted
from sonoshare_deploy.cli.study_chance import chance_fields, created_words

_VERBS = "create propose run status list pause resume stop adapter retire cancel"


@click.group("study", cls=InOrder, verbs=tuple(_VERBS.split()))
def command() -> None:
    """Create, run and resume studies."""


@command.command()
@home_option
@click.option("--name", type=IDENTIFIER_NAME, required=True, help="Identifier of the study.")
@click.option("--task", default="diagnosis", show_default=True, help="Name of a shipped task, or a task file (JSON).")
@click.option("--scanner", "scanners", multiple=True, help="Device name as the hospitals store it; repeatable.")
@click.option(
    "--cohort",
    "cohorts",
    metavar="ID=PATIENTS",
    multiple=True,
    required=True,
    help="A hospital and its nominal number of patients; repeatable.",
)
@click.option(
    "--epsilon",
    type=FiniteRange(0, min_open=True),
    default=8.0,
    show_default=True,
    help="Of training, votes and audits together.",
)
@click.option(
    "--delta",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=1e-4,
    show_default=True,
    help="Below 1/patients.",
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds of the study.")
@click.option(
    "--local-steps", type=click.IntRange(1), default=8, show_default=True, help="Steps of each hospital in a round."
)
@click.option(
    "--images", type=click.IntRange(2, 1_000_000), default=600, show_default=True, help="Images of the release."
)
@click.option("--profile", type=PROFILE, default="small", show_default=True, help="Size of the model.")
@click.option("--base", "base_digest", help="Digest of an imported base (sonoshare base import); default: the shipped.")
@click.option(
    "--trained",
    type=click.Choice(["affine", "outer", "lora", "full"]),
    default="affine",
    show_default=True,
    help="Which weights are trained.",
)
@click.option(
    "--epsilon-calibration",
    default=1.0,
    show_default=True,
    type=FiniteRange(0),
    help="Of the votes on phantoms; 0 for none. Without --ballot there are votes where one ships for the task.",
)
@click.option("--ballot", type=click.Path(path_type=Path, dir_okay=False), help="From: sonoshare coordinator ballot.")
@click.option(
    "--sharpness",
    default=2.0,
    show_default=True,
    type=FiniteRange(0, 20),
    help="How strongly phantoms that the votes call typical of their class are preferred; 0 draws kinds as voted.",
)
@click.option(
    "--start-time",
    type=click.IntRange(8, 990),
    default=120,
    show_default=True,
    help="How far phantoms are noised (of 1000) before the model refines them; 8 leaves them nearly as simulated.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "tf32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="In which hospitals train and the release is drawn (docs/devices.md).",
)
@device_option
@click.option(
    "--rate",
    default=0.25,
    show_default=True,
    type=FiniteRange(0, 1, min_open=True),
    help="Share of its patients that a hospital samples for a step, on average.",
)
@click.option("--draws", default=2, show_default=True, type=click.IntRange(1, 256), help="Of one patient in a step.")
@click.option(
    "--learning-rate",
    default=0.02,
    show_default=True,
    type=FiniteRange(0, 1, min_open=True),
    help="Of a step, in units of each tensor's size.",
)
@click.option(
    "--warm-steps",
    default=0,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="Steps in which the first adapter learns phantoms of the task, before a patient is seen.",
)
@click.option(
    "--quorum",
    type=click.IntRange(1),
    help="Hospitals whose updates close a round; default: all of one or two, two thirds of more, rounded up; "
    "masked: three at least.",
)
@click.option(
    "--round-deadline",
    "round_deadline_seconds",
    type=click.IntRange(60, 7 * 24 * 3600),
    default=1800,
    show_default=True,
    help="Seconds after which a round closes without the missing.",
)
@click.option(
    "--candidates",
    default=2,
    show_default=True,
    type=click.IntRange(1, 16),
    help="Candidates that may be audited, one after another until one passes; all are paid for in advance.",
)
@click.option(
    "--latest-time",
    type=click.IntRange(1, 999),
    help="Last diffusion time of the training draws; default: 150, or --start-time where that is later; 999: all.",
)
@click.option(
    "--noise",
    default="own",
    show_default=True,
    type=click.Choice(["own", "pooled"]),
    help="Whose noise hides a patient: each hospital's own, or shares that all hospitals add (docs/pooled-noise.md).",
)
@click.option("--honest", type=click.IntRange(2, 256), help="With pooled noise: how many hospitals must be honest.")
@click.option("--masked", is_flag=True, help="The coordinator sees the sum of updates alone; from three hospitals on.")
@quiet_option
@json_option
def create(
    *,
    home: Path,
    name: str,
    task: str,
    scanners: tuple[str, ...],
    cohorts: tuple[str, ...],
    base_digest: str | None,
    ballot: Path | None,
    device: str,
    as_json: bool,
    **terms: Any,
) -> None:
    """Work out a study's plan, sign it, and store it.

    Example: sonoshare coordinator study create --home C --name s --cohort a=150
    """
    from sonoshare_server.consortium.members import Consortium, require_members  # noqa: PLC0415
    from sonoshare_server.consortium.studies import draft_study  # noqa: PLC0415
    from sonoshare_server.consortium.terms import StudyTerms, parse_cohorts, read_ballot  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.science.model.base import IMPORTED, imported_base  # noqa: PLC0415
    from sonoshare_shared.science.tasks.files import read_task, with_scanners  # noqa: PLC0415

    folder, asked = CoordinatorHome(home), with_scanners(read_task(task), scanners)
    audit, patients = Consortium.read(folder).audit, parse_cohorts(cohorts)
    folder.require_new_study(name)
    require_members(folder, patients)
    base = imported_base(home / IMPORTED, base_digest) if base_digest else None
    where, said = told_device(device)
    votes = None if ballot is None else read_ballot(ballot)
    planned = StudyTerms(study=name, task=asked, cohorts=patients, audit=audit, base=base, ballot=votes, **terms)
    with counted("planning") as work:
        drafted = draft_study(planned, where, work.told)
    folder.create_study(drafted.plan, drafted.adapter, drafted.adapter_digest, drafted.ballot)
    plan = drafted.plan
    result = {
        "study": name,
        "plan": plan.digest(),
        "noise_multiplier": plan.mechanism.noise_multiplier,
        "steps": plan.steps,
        "candidates": plan.planned_candidates,
        "quorum": plan.quorum,
        "round_deadline": plan.round_deadline_seconds,
        "epsilon_calibration": 0.0 if plan.calibration is None else plan.calibration.epsilon,
        "precision": plan.computes_in,
        "masked": bool(plan.masked),
        "honest": plan.honest,
        "device": said,
        "chance": chance_fields(plan),
    }
    emit(result, as_json, created_words(result))
    next_step(at_home(home, "coordinator", "study", "propose", "--name", name))


@command.command(name="run")
@home_option
@click.option("--name", type=IDENTIFIER_NAME, required=True, help="Identifier of the study.")
@click.option(
    "--priority",
    type=click.IntRange(-100, 100),
    help="Of two studies the one of the higher number goes first; 0 at first, then as it was.",
)
@quiet_option
@json_option
def run_study(home: Path, name: str, priority: int | None, as_json: bool) -> None:
    """Run the rounds that are left (also: resume).

    They stop when this command is stopped or killed, and go on when it is run again.

    Example: sonoshare coordinator study run --home C --name s1
    """
    from sonoshare_deploy.coordinator import act, control_of  # noqa: PLC0415
    from sonoshare_deploy.processes import end_on_signals  # noqa: PLC0415
    from sonoshare_server.consortium.registration import register_nodes  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_server.queue.wanted import want  # noqa: PLC0415

    end_on_signals()
    folder = CoordinatorHome(home)
    this = folder.study(name)  # before the SuperLink is asked: a wrong name is said first
    register_nodes(folder, control_of(folder))
    want(this, "run", priority)
    words = ActionWords(this.events_path, f"study {name}: training")
    with progress_console().status(words.first) as shown:
        words.show = shown.update
        act(folder, this, "train", watch=words)
    emit({"study": name, "rounds_done": this.state.rounds_done, "adapter": this.state.adapter_digest}, as_json)
    next_step(at_home(home, "coordinator", "release", "create", "--study", name, "--name", f"{name}-r1"))


command.add_command(run_study, name="resume")
command.add_command(list_studies)
command.add_command(propose)
command.add_command(stop)
command.add_command(stop, name="pause")
command.add_command(cancel)
command.add_command(retire)
command.add_command(study_status)


@command.command(name="adapter")
@home_option
@click.option("--name", type=IDENTIFIER_NAME, required=True, help="Identifier of the study.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of adapters.")
@json_option
def study_adapter(home: Path, name: str, out: Path, as_json: bool) -> None:
    """Write a study's newest adapter under the name of its task.

    Example: sonoshare coordinator study adapter --home C --name s1 --out OUT
    """
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.durable import write_atomically  # noqa: PLC0415
    from sonoshare_shared.errors import InputError  # noqa: PLC0415

    this = CoordinatorHome(home).study(name)
    if this.state.rounds_done == 0:
        remedy = f"run: sonoshare coordinator study run --name {name}"
        raise InputError(f"study {name} is not trained yet", remedy=remedy)
    path = out / f"{this.plan.task.name}.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, this.adapter())
    emit({"adapter": str(path), "digest": this.state.adapter_digest, "rounds_done": this.state.rounds_done}, as_json)
