"""``sonoshare hospital``: a hospital's own node, from an empty folder to a full vault.

Everything is imported inside the commands, so that ``--help`` is fast.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sonoshare_deploy.cli.backup import hospital_backup, hospital_restore
from sonoshare_deploy.cli.device import DEVICE_WORD, found_device, node_device_option
from sonoshare_deploy.cli.events import hospital_events
from sonoshare_deploy.cli.hospital_answer import answer
from sonoshare_deploy.cli.hospital_check import check
from sonoshare_deploy.cli.hospital_console import console
from sonoshare_deploy.cli.hospital_declare import declare
from sonoshare_deploy.cli.hospital_join import join
from sonoshare_deploy.cli.hospital_keys import keys
from sonoshare_deploy.cli.hospital_look import look
from sonoshare_deploy.cli.hospital_policy import policy
from sonoshare_deploy.cli.hospital_quarantine import quarantine, take_again
from sonoshare_deploy.cli.hospital_revoke import revoke
from sonoshare_deploy.cli.hospital_run import enrol, start
from sonoshare_deploy.cli.hospital_sources import pull, receive, source_folder, watch_folder
from sonoshare_deploy.cli.hospital_status import status
from sonoshare_deploy.cli.hospital_studies import approve, refuse, studies
from sonoshare_deploy.cli.hospital_twins import twins
from sonoshare_deploy.cli.output import emit, folding_table, is_quiet, json_option, next_step, quiet_option
from sonoshare_deploy.cli.parameters import node_home_option
from sonoshare_deploy.cli.pasted import at_home
from sonoshare_deploy.cli.private import Private
from sonoshare_deploy.cli.progress import counted
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device_word import AUTO

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_client.intake.report import IngestReport
    from sonoshare_client.own_eyes.overview import LedgerOverview

_QUARANTINE_LINES = 20


_VERBS = (
    "init join enrol check ingest receive pull quarantine twins review policy studies approve refuse start status "
    "console look events ledger answer revoke forget keys declare"
)


@click.group(cls=Private, verbs=tuple(_VERBS.split()))
def command() -> None:
    """Run a hospital node."""


@command.command(short_help="Make the node's folder.")
@node_home_option
@click.option("--id", "hospital_id", required=True, help="Lowercase letters, digits and hyphens.")
@click.option("--patients", type=click.IntRange(min=1), help="Trained patients to declare: a public, round number.")
@click.option("--vault-key", type=click.Path(path_type=Path, dir_okay=False), help="Where the vault key goes, or lies.")
@click.option("--device", type=DEVICE_WORD, default=AUTO, show_default=True, help="Where the node computes.")
@quiet_option
@json_option
def init(
    home_path: Path, hospital_id: str, patients: int | None, vault_key: Path | None, *, device: str, as_json: bool
) -> None:
    """Make the node's folder: keys, an empty vault, and the policy to edit.

    Example: sonoshare hospital init --home NODE --id west --patients 150
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.policy import policy_for  # noqa: PLC0415

    home = NodeHome.create(home_path, hospital_id, policy=policy_for(patients), vault_key=vault_key, device=device)
    result = {
        "id": home.hospital,
        "identity_public_key": home.identity().public.hex,
        "node_public_key": home.node_public_key,
    }

    def human(console: "Console") -> None:
        console.print(f"{home.hospital}: node made in {home.path}", markup=False, highlight=False)
        for name in ("identity", "node"):  # whole lines to copy, however narrow the window
            key = result[f"{name}_public_key"]
            console.print(f"  {name} key  {key}", markup=False, highlight=False, soft_wrap=True)
        if not is_quiet():
            console.print(
                f"  next: read {home.policy_path}, then: {at_home(home_path, 'hospital', 'ingest', 'FOLDER')}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    emit(result, as_json, human)


@command.command(short_help="Take pictures into the vault.")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@node_home_option
@click.option("--labels", type=click.Path(path_type=Path, dir_okay=False), help="labels.csv; in SOURCE if absent.")
@click.option("--task", help="Shipped task or task file; pictures of other classes are set aside.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1, max=64), help="Child processes.")
@click.option("--watch", is_flag=True, help="Stay, and take in what is new in the folder.")
@click.option("--again", is_flag=True, help="Instead of SOURCE: what was set aside, and what older rules took in.")
@node_device_option
@quiet_option
@json_option
def ingest(
    *,
    source: Path | None,
    home_path: Path,
    labels: Path | None,
    task: str | None,
    jobs: int,
    device: str | None,
    watch: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Take the pictures of SOURCE, a folder or a ZIP archive, into the vault.

    After a change of the rules, --again instead of SOURCE tries once more what was set aside, and holds what was taken
    under older rules against today's.

    Example: sonoshare hospital ingest FOLDER --home NODE --jobs 2
    """
    from sonoshare_client.intake.ingest import ingest as take_in  # noqa: PLC0415
    from sonoshare_client.intake.ingest import ingest_table  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_shared.science.tasks.files import read_task  # noqa: PLC0415

    if (source is None) != again or (again and (watch or labels is not None or task is not None)):
        raise click.UsageError("name a folder or an archive, or --again without SOURCE, --labels, --task and --watch")
    classes = None if task is None else read_task(task).classes
    home = NodeHome.open(home_path)
    where, said = found_device(device or home.device)
    if source is None:
        take_again(home, jobs, where, as_json=as_json)
        return
    if watch:
        watch_folder(
            source,
            labels,
            lambda table: (
                take_in(home, source, labels, classes=classes, jobs=jobs, device=where)
                if table is None
                else ingest_table(home, table, classes=classes, jobs=jobs, device=where)
            ),
            lambda report: emit(
                asdict(report) | {"device": said}, as_json, lambda out: _print_report(out, report, said)
            ),
        )
    with source_folder(home, source) as folder, counted("intake") as work:
        report = take_in(
            home,
            folder,
            labels,
            classes=classes,
            jobs=jobs,
            progress=work,
            device=where,
            archive=source if source.is_file() else None,
        )
    emit(asdict(report) | {"device": said}, as_json, lambda out: _print_report(out, report, said))
    if report.quarantined and report.accepted + report.duplicates == 0:
        raise InputError("every picture was set aside", remedy="see the reasons, then ingest again")
    next_step(at_home(home_path, "hospital", "check"))


def _print_report(console: "Console", report: "IngestReport", device: str) -> None:
    console.print(
        f"{report.accepted} pictures taken in, {report.duplicates} already there, {report.patients} patients, "
        f"{len(report.quarantined)} set aside, {len(report.unlisted)} files not in the labels",
        highlight=False,
    )
    if report.classified:
        console.print(f"{report.classified} pictures that waited have a class now", highlight=False)
    if report.waiting:
        console.print(
            f"{report.waiting} pictures have no class and take no part in any task: once labels are there, ingest the "
            "folder again with --labels FILE",
            markup=False,
            highlight=False,
        )
    if report.uncompared:
        console.print(
            f"NOT FULLY COMPARED: {report.uncompared} pictures; the search had to stop while it still found pairs, and "
            "their patients join no study: go on with 'sonoshare hospital twins'",
            highlight=False,
        )
    else:
        console.print(f"new pictures were compared with all others on device: {device}", markup=False, highlight=False)
    _print_set_aside(console, report)
    for name in report.unlisted[:_QUARANTINE_LINES]:
        console.print(f"  no row names {name}", markup=False, highlight=False)
    if len(report.unlisted) > _QUARANTINE_LINES:
        console.print(f"  and {len(report.unlisted) - _QUARANTINE_LINES} more (--json lists all)", highlight=False)
    for entry in report.flagged[:_QUARANTINE_LINES]:
        console.print(f"  taken in, look at it: {entry.where}: {entry.reason}", markup=False, highlight=False)
    for twin in report.twins:
        console.print(
            f"  pair {twin.pair}: {' and '.join(twin.sources)} look like one person (score {twin.score:.2f}); until "
            "you decide they are held back: sonoshare hospital twins",
            markup=False,
            highlight=False,
        )


def _print_set_aside(console: "Console", report: "IngestReport") -> None:
    for entry in report.quarantined[:_QUARANTINE_LINES]:
        console.print(f"  {entry.where}: {entry.reason}", markup=False, highlight=False)
    if len(report.quarantined) > _QUARANTINE_LINES:
        console.print(f"  and {len(report.quarantined) - _QUARANTINE_LINES} more (--json lists all)", highlight=False)
    if report.quarantined:
        console.print("  look at them, let them in: sonoshare hospital quarantine list", highlight=False)


@command.command(short_help="Write what the vault keeps of each image.")
@node_home_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write; must not be in use.")
@json_option
def review(home_path: Path, out: Path, *, as_json: bool) -> None:
    """Write what the vault keeps of each image, for the hospital's own eyes.

    Example: sonoshare hospital review --home NODE --out LOOK
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.own_eyes.review import write_review  # noqa: PLC0415
    from sonoshare_client.vault.store import Vault  # noqa: PLC0415

    with Vault(NodeHome.open(home_path)) as vault:
        images = write_review(vault, out)

    def human(console: "Console") -> None:
        look = "patient data in the clear. Look, then delete." if images else "the vault holds none."
        console.print(f"{images} images in {out}: {look}", markup=False, soft_wrap=True)

    emit({"images": images}, as_json, human)


@command.command()
@node_home_option
@click.option(
    "--patients",
    required=True,
    type=click.File(encoding="utf-8"),
    help="File with one patient a line, as in labels.csv; '-' for standard input.",
)
@json_option
def forget(home_path: Path, patients: Any, *, as_json: bool) -> None:
    """Remove patients, and what was set aside of them.

    What was learnt from them stays; the ledger has paid for it.

    Example: sonoshare hospital forget --home NODE --patients gone.txt
    """
    from sonoshare_client.intake.deciding import forget_patient  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.vault.store import Vault  # noqa: PLC0415

    asked: dict[str, int] = {}
    for number, line in enumerate(patients, start=1):
        if line.strip():
            asked.setdefault(line.strip(), number)
    home = NodeHome.open(home_path)
    with Vault(home) as vault, vault.writing() as writer:
        removed = {number: forget_patient(home, vault, writer, name) for name, number in asked.items()}
    unknown = [number for number, gone in removed.items() if not any(gone)]
    images, set_aside = (sum(gone[place] for gone in removed.values()) for place in (0, 1))
    emit(
        {"patients": len(removed) - len(unknown), "images": images, "set_aside": set_aside, "unknown": unknown}, as_json
    )
    if unknown:  # a withdrawal that was mistyped must not look done
        raise InputError(
            f"the patients of line {', '.join(map(str, unknown))} are not in the vault",
            remedy="write them as labels.csv does; those of the other lines are removed",
        )


@command.command(short_help="Print what was spent, and whether the record is whole.")
@node_home_option
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Also draw epsilon over time (PNG).")
@click.option(
    "--export",
    "export_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the whole signed record, for anybody to check: sonoshare verify FILE --roster ROSTER",
)
@json_option
def ledger(home_path: Path, *, plot: Path | None, export_file: Path | None, as_json: bool) -> None:
    """Print what was spent, on what, and whether the record is whole; exit 1 if it is not.

    Example: sonoshare hospital ledger --home NODE --plot ledger.png
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.own_eyes.overview import draw_ledger_overview, export_ledger, ledger_overview  # noqa: PLC0415

    home = NodeHome.open(home_path)
    overview = ledger_overview(home, lambda: datetime.now(UTC))
    if plot is not None and overview.intact:
        draw_ledger_overview(home, lambda: datetime.now(UTC), plot)
    if export_file is not None and overview.intact:
        export_ledger(home, lambda: datetime.now(UTC), export_file)
    result = {
        "spent": None if overview.spent is None else asdict(overview.spent),
        "budget": asdict(overview.budget),
        "entries": [charge.model_dump(mode="json", by_alias=True) for charge in overview.entries],
        "head": overview.head,
        "intact": overview.intact,
    }
    emit(result, as_json, lambda console: _print_ledger(console, overview))
    if not overview.intact:
        from sonoshare_shared.errors import LedgerError  # noqa: PLC0415

        raise LedgerError(overview.broken)


def _print_ledger(console: "Console", overview: "LedgerOverview") -> None:
    from sonoshare_shared.protocol.documents.charge import most_honest  # noqa: PLC0415

    if overview.spent is None:
        return
    table = folding_table("entry", "day (UTC)", "kind", "study", "purpose", "epsilon of study", "of life")
    for charge in overview.entries:
        table.add_row(
            str(charge.sequence),
            charge.time[:10],
            charge.kind,
            charge.study,
            charge.purpose,
            f"{charge.epsilon_study:.3f}",
            f"{charge.epsilon_lifetime:.3f}",
        )
    console.print(table)
    console.print(
        f"spent epsilon {overview.spent.epsilon:.3f} of {overview.budget.epsilon:g} at delta {overview.budget.delta:g}",
        highlight=False,
    )
    if rests := most_honest(overview.entries):
        console.print(
            f"where noise was shared, this holds as long as {rests} hospitals of every sum are honest", highlight=False
        )
    console.print(f"head {overview.head}: intact", highlight=False)


command.add_command(answer)
command.add_command(hospital_backup)
command.add_command(hospital_restore)
command.add_command(check)
command.add_command(console)
command.add_command(declare)
command.add_command(enrol)
command.add_command(hospital_events)
command.add_command(join)
command.add_command(keys)
command.add_command(start)
command.add_command(status)
command.add_command(look)
command.add_command(policy)
command.add_command(pull)
command.add_command(quarantine)
command.add_command(receive)
command.add_command(twins)
command.add_command(studies)
command.add_command(approve)
command.add_command(refuse)
command.add_command(revoke)
