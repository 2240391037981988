"""``sonoshare hospital studies``, ``approve`` and ``refuse``: what was proposed, and what persons decide about it.

Everything is imported inside the commands, so that ``--help`` is fast.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.output import emit, insist, json_option, next_step, quiet_option
from sonoshare_deploy.cli.parameters import IDENTIFIER_NAME, node_home_option
from sonoshare_deploy.cli.pasted import at_home
from sonoshare_shared.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_client.own_eyes.proposed import Proposed


@click.command(short_help="Studies that were proposed, and their cost here.")
@node_home_option
@json_option
def studies(home_path: Path, *, as_json: bool) -> None:
    """Studies that were proposed, what each would cost here, and who has decided.

    Example: sonoshare hospital studies --home NODE
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_client.own_eyes.proposed import proposed_studies  # noqa: PLC0415

    found = proposed_studies(NodeHome.open(home_path), lambda: datetime.now(UTC))
    emit({"studies": [asdict(one) for one in found]}, as_json, lambda console: _print_studies(console, found))


@click.command(short_help="Let the node take part in a study.")
@click.argument("study", type=IDENTIFIER_NAME)
@node_home_option
@click.option("--plan", "digest", help="Digest of the plan that is approved, all of it; else you are asked.")
@quiet_option
@json_option
def approve(study: str, home_path: Path, *, digest: str | None, as_json: bool) -> None:
    """Let the node take part in STUDY: in the one plan that is shown, and in no changed one.

    The coordinator is told at its next question. 'sonoshare hospital refuse' takes an approval back: no later round is
    trained.

    Example: sonoshare hospital approve s1 --home NODE
    """
    from sonoshare_client.node.approvals import decide  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.own_eyes.proposed import proposed_study, require_shown  # noqa: PLC0415
    from sonoshare_shared.locks import is_locked  # noqa: PLC0415

    home = NodeHome.open(home_path)
    plan, shown = proposed_study(home, study, lambda: datetime.now(UTC))
    if digest is None:
        for line in _lines(shown):
            insist(line)
        click.confirm("approve this plan?", abort=True, err=True)
    else:
        require_shown(shown, digest)
    decide(home, plan, "approved")
    emit({"study": study, "plan": shown.plan, "decision": "approved"}, as_json)
    next_step(at_home(home_path, "hospital", "status" if is_locked(home.state.agent_lock_path) else "start"))


@click.command(short_help="Refuse a study, or take an approval back.")
@click.argument("study", type=IDENTIFIER_NAME)
@node_home_option
@click.option("--reason", required=True, help="In words. It LEAVES this hospital: say nothing of a patient.")
@json_option
def refuse(study: str, home_path: Path, *, reason: str, as_json: bool) -> None:
    """Take no part in STUDY, or no further part: what it has been charged stays charged.

    The reason goes to the coordinator as it is written. Say nothing in it that tells of a patient.

    Example: sonoshare hospital refuse s1 --home NODE --reason "not now"
    """
    from sonoshare_client.node.approvals import decide  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.own_eyes.proposed import proposed_study  # noqa: PLC0415

    home = NodeHome.open(home_path)
    plan, _ = proposed_study(home, study, lambda: datetime.now(UTC))
    decided = decide(home, plan, "refused", reason)
    result = {"study": study, "plan": decided.plan, "decision": "refused", "reason": reason}

    def human(console: "Console") -> None:
        console.print(f"study {study} is refused; the coordinator will read: {reason}", markup=False, highlight=False)

    emit(result, as_json, human)


def _lines(one: "Proposed") -> list[str]:
    others = ", ".join(one.others) or "nobody"
    # The question is the coordinator's words, and a person decides by these lines: it is one line, whatever it holds.
    return [
        f"{one.study}: {printable(one.question)}",
        f"  state     {one.state}, {printable(one.why)}",
        f"  cost      epsilon {one.epsilon:.3f} at delta {one.delta:g} for each patient, votes and audits included",
        f"  budget    {one.left_before:.3f} left of the lifetime epsilon, {one.left_after:.3f} after the whole study",
        f"  asks      {one.rounds} rounds, to be audited {one.candidates} times at most; with {others}",
        *([] if one.honest is None else [f"  assumes   that {one.honest} hospitals of every sum are honest"]),
        f"  plan      {one.plan}",
    ]


def _print_studies(console: "Console", found: "list[Proposed]") -> None:
    if not found:
        console.print("no study was proposed yet", markup=False, highlight=False)
    for one in found:
        for line in _lines(one):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if any(one.state == "waiting" for one in found):
        console.print("decide with: sonoshare hospital approve STUDY, or refuse", markup=False, highlight=False)
