"""``sonoshare hospital declare``: what a lost ledger could have spent, charged to a new node."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.parameters import FiniteRange, node_home_option

if TYPE_CHECKING:
    from rich.console import Console


@click.command(short_help="Charge a new node for what a lost ledger could have spent.")
@node_home_option
@click.option(
    "--lost",
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of the old node, restored from its newest backup.",
)
@click.option(
    "--plan",
    "plan_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Plan of a study that the old folder does not hold; may be given often.",
)
@click.option(
    "--audit",
    "audits",
    multiple=True,
    metavar="EPSILON",
    type=FiniteRange(0, min_open=True),
    help="A stand-alone audit that the old ledger lacks, since no log shows it: what it cost; may be given often.",
)
@json_option
def declare(
    *, home_path: Path, lost: Path, plan_files: tuple[Path, ...], audits: tuple[float, ...], as_json: bool
) -> None:
    """Charge a new node, before it trains, for what a lost ledger could have spent on the same patients.

    A ledger that is older than others have seen refuses to train for good. Make a new node with another id, and
    declare the old one's spending there: each study of the log that named the hospital counts in full. Start the
    restored node once before, so that it is shown the newest log. Declared again, only what is new is charged.

    Example: sonoshare hospital declare --home west-2 --lost west-restored
    """
    from sonoshare_client.node.declaring import declaration  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.node.declaring import declare as charge  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.node.ledger import open_ledger  # noqa: PLC0415
    from sonoshare_client.node.plan_check import read_plan  # noqa: PLC0415
    from sonoshare_shared.errors import FederationError  # noqa: PLC0415
    from sonoshare_shared.locks import locked  # noqa: PLC0415

    old, new = NodeHome.open(lost), NodeHome.open(home_path)
    runs = FederationError(f"the agent of {old.hospital} runs", remedy="stop it: it must not be charged any more")
    with locked(old.state.agent_lock_path, runs):
        said = declaration(old, [read_plan(path) for path in plan_files], new=new, audits=audits)
        ledger = open_ledger(new, lambda: datetime.now(UTC))
        try:
            charge(ledger, said)
            spent, budget = ledger.spent(), ledger.budgets.lifetime
        finally:
            ledger.close()
    left = max(0.0, budget.epsilon - spent.epsilon)
    studies = [{"study": one.study, "whole_plan": one.study in said.whole} for one in said.charges]
    result: dict[str, object] = {
        "lost_head": said.head,
        "log_entries": said.log_entries,
        "log_shows_the_loss": said.behind,
        "studies": studies,
        "spent": {"epsilon": spent.epsilon, "delta": spent.delta},
        "budget": {"epsilon": budget.epsilon, "delta": budget.delta},
        "left": left,
    }

    def human(console: "Console") -> None:
        for one in studies:
            how = "in full" if one["whole_plan"] else "as the old ledger has it"
            console.print(f"{one['study']}: charged {how}", markup=False, highlight=False)
        words = f"epsilon {spent.epsilon:.3f} of {budget.epsilon:g} is spent at delta {budget.delta:g}"
        console.print(f"{words}; the log here ends at entry {said.log_entries}", markup=False)
        words = f"never start {old.hospital} again: what it spent from now on would be in no other ledger"
        console.print(f"  {words}", markup=False)
        if not said.behind:
            words = (
                "that log shows no charge that the old ledger lacks: start the restored node once, then declare again"
            )
            console.print(f"  {words}", markup=False)
        if not left:
            console.print("  nothing is left: this node trains no more under these limits", markup=False)

    emit(result, as_json, human)
