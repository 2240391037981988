"""``sonoshare audit``: audit a folder of synthetic images, of any generator, against real ones."""

import csv
import io
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from sonoshare_deploy.cli.device import device_option, told_device
from sonoshare_deploy.cli.output import emit, folding_table, json_option, progress_console, quiet_option
from sonoshare_deploy.cli.parameters import FiniteRange
from sonoshare_deploy.cli.progress import counted
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError

if TYPE_CHECKING:
    from sonoshare_client.audit.auditor import AuditOutcome
    from sonoshare_client.audit.folder import FolderAudit
    from sonoshare_client.audit.payment import Payment
    from sonoshare_privacy.audits.gate import Cohort
    from sonoshare_shared.protocol.documents import AuditPlan

EPSILON = 1.0
TOLERATED_SHARE = 0.1
TOLERATED_AUC = 0.7
ALPHA = 0.05


@click.command()
@click.argument("synthetic", metavar="SYNTHETIC_DIR", type=click.Path(path_type=Path))
@click.option("--train", required=True, metavar="CSV", type=click.Path(path_type=Path), help="Patients trained on.")
@click.option(
    "--held-out", required=True, metavar="CSV", type=click.Path(path_type=Path), help="Patients never trained on."
)
@click.option(
    "--epsilon-audit", default=EPSILON, show_default=True, type=FiniteRange(0, min_open=True), help="Its budget."
)
@click.option(
    "--tolerated-share",
    default=TOLERATED_SHARE,
    show_default=True,
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Share of copied patients at which PASS is impossible.",
)
@click.option(
    "--tolerated-auc",
    default=TOLERATED_AUC,
    show_default=True,
    type=FiniteRange(0.5, 1, min_open=True, max_open=True),
    help="Membership AUC at which PASS is impossible.",
)
@click.option(
    "--alpha",
    default=ALPHA,
    show_default=True,
    type=FiniteRange(0, 0.2, min_open=True),
    help="Error probability of each bound.",
)
@click.option(
    "--cohort",
    nargs=2,
    type=click.IntRange(1),
    metavar="TRAINED HELD_OUT",
    help="Nominal numbers of patients; without, the lengths of the lists are taken to be public.",
)
@click.option(
    "--epsilon-baseline",
    default=0.0,
    type=FiniteRange(0),
    help="Budget of a blind baseline: do the two lists differ without any model? (not run by default)",
)
@click.option("--home", type=click.Path(path_type=Path), help="Hospital node whose ledger is charged.")
@click.option(
    "--own-eyes",
    type=click.Path(path_type=Path),
    help="Write the true nearest pairs to this .csv, or pictures of pairs, scores and ROC to this folder. NOT private.",
)
@click.option("--explain", is_flag=True, help="Print what this audit can and cannot see.")
@device_option
@quiet_option
@json_option
def command(
    *,
    synthetic: Path,
    train: Path,
    held_out: Path,
    epsilon_audit: float,
    tolerated_share: float,
    tolerated_auc: float,
    alpha: float,
    cohort: tuple[int, int] | None,
    epsilon_baseline: float,
    home: Path | None,
    own_eyes: Path | None,
    explain: bool,
    device: str,
    as_json: bool,
) -> int:
    """Audit the synthetic images in SYNTHETIC_DIR against the patients of two lists.

    The lists are CSV files with the columns image,patient,label. Verdicts are PASS, FAIL and INCONCLUSIVE; every figure
    is differentially private for one patient with all of their images.

    Example: sonoshare audit made --train train.csv --held-out held.csv
    """
    # Imported here: `audit --help` needs none of it.
    from sonoshare_client.audit.folder import read_folder_audit  # noqa: PLC0415
    from sonoshare_privacy.audits.gate import Cohort  # noqa: PLC0415
    from sonoshare_shared.protocol.documents import AuditPlan  # noqa: PLC0415

    if own_eyes is not None:
        _require_new(own_eyes)  # before a ledger is charged
    start = time.monotonic()
    where, said = told_device(device)
    plan = AuditPlan(
        held_out_fraction=0.5,  # not used: both lists are given
        epsilon_copies=epsilon_audit,
        epsilon_membership=epsilon_audit,  # not spent: there is no model to attack
        tolerated_share=tolerated_share,
        tolerated_auc=tolerated_auc,
        alpha=alpha,
    )
    with counted("reading images"):
        audit = read_folder_audit(synthetic, train, held_out, where)
    nominal = Cohort(*cohort) if cohort else audit.cohort
    with counted("learning what a copy looks like") as work:
        payment = _payment(home, nominal, audit)

        def told(done: int, total: int) -> None:
            """By percent: a line that is kept tells no true number of pictures."""
            work.told("percent of pictures compared", 100 * done // total, 100)

        outcome = audit.run(plan, nominal, payment, epsilon_baseline, told)
    result = _result(outcome, cohort_is_public=cohort is None, seconds=time.monotonic() - start) | {"device": said}
    if explain:
        result["explain"] = _operating_points(plan, nominal, outcome)
    if own_eyes is not None:
        _write_own_eyes(own_eyes, audit, f"Audit of {synthetic.name}", outcome.figures.copies.threshold)
    emit(result, as_json, lambda console: _show(console, result))
    return int(outcome.verdict != "PASS")


def _payment(home: Path | None, nominal: "Cohort", audit: "FolderAudit") -> "Payment":
    """The ledger of a hospital node, or none."""
    from sonoshare_client.audit.payment import LedgerPayment, NoLedger  # noqa: PLC0415

    if home is None:
        return NoLedger()
    from sonoshare_client.agent.ledger_heads import require_newest  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.node.ledger import open_ledger  # noqa: PLC0415
    from sonoshare_client.node.plan_check import STAND_ALONE  # noqa: PLC0415

    node = NodeHome.open(home)
    ledger = open_ledger(node, lambda: datetime.now(UTC))
    require_newest(node, ledger)  # the agent asks others besides; here nobody else would notice an older ledger
    return LedgerPayment(
        ledger,
        study=STAND_ALONE,
        candidate=audit.candidates.digest(),
        delta=ledger.budgets.study.delta,
        nominal=nominal.trained,
        max_candidates=None,
    )


def _result(outcome: "AuditOutcome", *, cohort_is_public: bool, seconds: float) -> dict[str, Any]:
    notes = ["no model was given: the loss attack, the stronger one, was not run"]
    if outcome.figures.blind_baseline is None:
        notes.append("membership figures rest on lists that were split at random; --epsilon-baseline checks it")
    if cohort_is_public:
        notes.append("the lengths of both lists were taken to be public; --cohort keeps them private")
    return {
        "verdict": outcome.verdict,
        "verdict_weights": outcome.weights.verdict,
        **outcome.figures.model_dump(mode="json", by_alias=True),
        "smallest_detectable_leak": outcome.smallest_detectable_leak,
        "reasons": list(outcome.reasons),
        "reasons_weights": [reason for reason in outcome.weights.reasons if reason not in outcome.reasons],
        "epsilon": outcome.epsilon,
        "notes": notes,
        "seconds": round(seconds, 2),
    }


def _operating_points(plan: "AuditPlan", nominal: "Cohort", outcome: "AuditOutcome") -> list[dict[str, float]]:
    """Exact chances of the copy test's outcomes over true leaks from none to all."""
    from sonoshare_privacy.audits.gate import DetectorRates, copy_test, tolerated_patients  # noqa: PLC0415

    figures = outcome.figures.copies
    rates = DetectorRates(figures.declared_recall, figures.declared_false_rate)
    test, tolerated = copy_test(plan, nominal, rates), tolerated_patients(plan, nominal)
    shares = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.37, 1.0)
    leaks = sorted({*(round(share * nominal.trained) for share in shares), tolerated})
    points = [test.operating_point(copied, tolerated) for copied in leaks if copied <= nominal.trained]
    return [
        {"copied": at.copied, "pass": at.passes, "fail": at.fails, "inconclusive": at.inconclusive} for at in points
    ]


def _require_new(own_eyes: Path) -> None:
    """Refuse a place for the hospital's own view that is taken."""
    from sonoshare_client.node.private_folder import require_free  # noqa: PLC0415

    if own_eyes.suffix.lower() != ".csv" and not own_eyes.is_file():
        require_free(own_eyes)
    elif own_eyes.exists():
        raise InputError(f"{own_eyes.name} exists", remedy="give the name of a new file or folder")


def _write_own_eyes(path: Path, audit: "FolderAudit", title: str, threshold: float) -> None:
    from sonoshare_client.own_eyes.folder_view import folder_view  # noqa: PLC0415
    from sonoshare_client.own_eyes.view import WARNING, write_view  # noqa: PLC0415

    if path.suffix.lower() != ".csv":
        write_view(path, folder_view(audit, title, threshold))
        progress_console().print(f"{path.name}: {WARNING}")
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["patient", "image", "synthetic", "score"])
    rows = sorted(audit.nearest(), key=lambda row: -row[3])
    writer.writerows([name, own.image, synthetic.image, f"{score:.3f}"] for name, own, synthetic, score in rows)
    write_atomically(path, text.getvalue().encode(), mode=0o600)
    progress_console().print(f"{path.name}: {WARNING}")


def _show(console: Console, result: Mapping[str, Any]) -> None:
    console.print(f"release images: [bold]{result['verdict']}[/bold]")
    for reason in result["reasons"]:
        console.print(f"- {escape(reason)}")
    console.print(f"release weights: [bold]{result['verdict_weights']}[/bold]")
    for reason in result["reasons_weights"]:
        console.print(f"- {escape(reason)}")
    copies = result["copies"]
    console.print(f"detector: finds {copies['declared_recall']:.0%} of planted copies (declared), by edit:")
    console.print(escape(", ".join(f"{name} {share:.2f}" for name, share in copies["recall_by_edit"].items())))
    console.print(f"blind spots: {escape(', '.join(copies['blind_spots']) or 'none in the table')}")
    if "explain" in result:
        table = folding_table("copied patients", "PASS", "FAIL", "INCONCLUSIVE", title="chances of the copy test")
        for at in result["explain"]:
            chances = (f"{at[name]:.3f}" for name in ("pass", "fail", "inconclusive"))
            table.add_row(str(at["copied"]), *chances)
        console.print(table)
    for note in result["notes"]:
        console.print(f"note: {escape(note)}")
    console.print(f"charged: epsilon {result['epsilon']:g}; {result['seconds']} s")
