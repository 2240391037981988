"""``sonoshare coordinator``: the consortium's server, from an empty folder to a published release.

Everything is imported inside the commands, so that ``--help`` is fast.
"""

from pathlib import Path
from typing import Any

import click

from sonoshare_deploy.cli.backup import coordinator_backup, coordinator_restore
from sonoshare_deploy.cli.coordinator_check import check
from sonoshare_deploy.cli.coordinator_console import console
from sonoshare_deploy.cli.coordinator_files import line, take
from sonoshare_deploy.cli.coordinator_invite import invite
from sonoshare_deploy.cli.coordinator_members import admit, expel, rotate_root
from sonoshare_deploy.cli.coordinator_people import people
from sonoshare_deploy.cli.coordinator_release import command as release
from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.coordinator_renew import renew
from sonoshare_deploy.cli.coordinator_status import status
from sonoshare_deploy.cli.coordinator_study import command as study
from sonoshare_deploy.cli.device import device_option, told_device
from sonoshare_deploy.cli.events import coordinator_events
from sonoshare_deploy.cli.output import emit, json_option, next_step, quiet_option
from sonoshare_deploy.cli.parameters import IDENTIFIER_NAME, PROFILE, FiniteRange
from sonoshare_deploy.cli.pasted import at_home
from sonoshare_deploy.cli.private import Private
from sonoshare_deploy.cli.progress import counted

_VERBS = (
    "init invite admit check start status console ballot study release take line people events renew expel rotate-root"
)


@click.group(cls=Private, verbs=tuple(_VERBS.split()))
def command() -> None:
    """Run the consortium's server."""


@command.command()
@home_option
@click.option("--consortium", type=IDENTIFIER_NAME, required=True, help="Lowercase letters, digits, hyphens.")
@click.option("--host", "hosts", multiple=True, help="Host name of this server in its TLS certificate; repeatable.")
@click.option(
    "--tolerated-share",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Copied patients at which no audit passes.",
)
@click.option(
    "--tolerated-auc",
    type=FiniteRange(0.5, 1, min_open=True, max_open=True),
    default=0.7,
    show_default=True,
    help="Membership AUC at which no audit passes.",
)
@click.option(
    "--epsilon-audit",
    type=FiniteRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Epsilon of one audit, half for each part.",
)
@click.option(
    "--alpha",
    type=FiniteRange(0, 0.2, min_open=True),
    default=0.05,
    show_default=True,
    help="Error probability of each bound of an audit.",
)
@click.option("--epsilon-veto", type=FiniteRange(0, min_open=True), help="Epsilon of votes to drop images; off.")
@click.option("--veto-threshold", default=1, show_default=True, type=click.IntRange(1, 1000), help="Votes that drop.")
@quiet_option
@json_option
def init(home: Path, consortium: str, hosts: tuple[str, ...], as_json: bool, **audit: Any) -> None:
    """Make keys, certificates and the audit policy.

    Example: sonoshare coordinator init --home C --consortium clinics
    """
    from sonoshare_deploy.provision import create_coordinator  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_server.consortium.audit_terms import audit_policy  # noqa: PLC0415
    from sonoshare_server.consortium.members import Consortium  # noqa: PLC0415
    from sonoshare_shared.protocol.documents.plan import VetoPlan  # noqa: PLC0415

    epsilon = audit["epsilon_veto"]
    veto = None if epsilon is None else VetoPlan(epsilon=epsilon, threshold=audit["veto_threshold"])
    policy = audit_policy(
        audit["epsilon_audit"], audit["tolerated_share"], audit["tolerated_auc"], audit["alpha"], veto
    )
    folder = create_coordinator(home, Consortium(consortium, policy), (*hosts, "127.0.0.1", "localhost"))
    certificate = str(folder.authority_path)
    emit({"consortium": consortium, "root_key": folder.root.hex, "certificate": certificate}, as_json)
    next_step(at_home(home, "coordinator", "check"), at_home(home, "coordinator", "start"))


@command.command()
@home_option
@click.option("--fleet", default="127.0.0.1:9092", show_default=True, help="host:port that hospitals connect to.")
@click.option("--control", default="127.0.0.1:9093", show_default=True, help="host:port of control; keep on loopback.")
@click.option("--catalogue", default="127.0.0.1:8080", show_default=True, help="host:port of the catalogue.")
@click.option("--monitor", metavar="HOST:PORT", help="Answer /healthz and /metrics there; on loopback only.")
def start(home: Path, fleet: str, control: str, catalogue: str, monitor: str | None) -> None:
    """Run the SuperLink and the catalogue until interrupted.

    Example: sonoshare coordinator start --home C --fleet 0.0.0.0:9092
    """
    from sonoshare_deploy.coordinator_service import run_coordinator  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    run_coordinator(CoordinatorHome(home), fleet=fleet, control=control, catalogue=catalogue, monitor=monitor)


@command.command(short_help="Make what patients vote on.")
@click.option("--task", default="diagnosis", show_default=True, help="Name of a shipped task, or a task file (JSON).")
@click.option("--profile", type=PROFILE, default="small", show_default=True, help="Size of the model.")
@click.option("--clusters", default=40, show_default=True, type=click.IntRange(1), help="Options of each class.")
@click.option("--phantoms", default=6_000, show_default=True, type=click.IntRange(1), help="Of the pool.")
@click.option("--seed", default=900, show_default=True, type=click.IntRange(0), help="Of the pool.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The ballot (safetensors).")
@device_option
@quiet_option
@json_option
def ballot(
    *, task: str, profile: str, clusters: int, phantoms: int, seed: int, out: Path, device: str, as_json: bool
) -> None:
    """Make what patients vote on: kinds of simulated phantoms of a task. No patient is read.

    Example: sonoshare coordinator ballot --out ballot.safetensors
    """
    from sonoshare_shared.durable import write_atomically  # noqa: PLC0415
    from sonoshare_shared.errors import InputError  # noqa: PLC0415
    from sonoshare_shared.science.calibration.ballot import make_ballot  # noqa: PLC0415
    from sonoshare_shared.science.model.profiles import profile_named  # noqa: PLC0415
    from sonoshare_shared.science.tasks.files import read_task  # noqa: PLC0415

    if out.exists():
        raise InputError(f"{out.name} exists", remedy="give the name of a new file")
    asked, size = read_task(task), profile_named(profile).size
    where, said = told_device(device)
    with counted("phantoms") as work:
        made = make_ballot(
            asked,
            size,
            seed=seed,
            pool=phantoms,
            clusters=clusters,
            progress=work,
            device=where,
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, made.to_bytes())
    result = {"ballot": made.digest(), "classes": made.classes, "clusters": made.clusters, "file": str(out)}
    emit(result | {"device": said}, as_json)


command.add_command(coordinator_backup)
command.add_command(coordinator_restore)
command.add_command(line)
command.add_command(take)
command.add_command(admit)
command.add_command(check)
command.add_command(console)
command.add_command(coordinator_events)
command.add_command(expel)
command.add_command(invite)
command.add_command(people)
command.add_command(release)
command.add_command(renew)
command.add_command(rotate_root)
command.add_command(status)
command.add_command(study)
