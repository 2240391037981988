"""``sonoshare coordinator study list|propose|stop|cancel|retire``: the studies there are, and what becomes of them.

Everything is imported inside the commands, so that ``--help`` is fast.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.output import emit, folding_table, json_option, next_step, progress_console, quiet_option
from sonoshare_deploy.cli.parameters import IDENTIFIER_NAME
from sonoshare_deploy.cli.pasted import at_home
from sonoshare_shared.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_server.queue.standing import Standing
    from sonoshare_server.queue.wanted import Wish

name_option = click.option("--name", type=IDENTIFIER_NAME, required=True, help="Identifier of the study.")


@click.command("list")
@home_option
@json_option
def list_studies(home: Path, *, as_json: bool) -> None:
    """Every study: its state, its rounds, and what it waits for.

    Example: sonoshare coordinator study list --home C
    """
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_server.queue.standing import standings  # noqa: PLC0415

    found = standings(CoordinatorHome(home))
    emit({"studies": [asdict(one) for one in found]}, as_json, lambda console: _print_standings(console, found))


@click.command()
@home_option
@name_option
@quiet_option
@json_option
def propose(home: Path, name: str, *, as_json: bool) -> None:
    """Ask every hospital whether it would take part.

    Nothing is charged by it.

    'study run' asks too, before its first round.

    Example: sonoshare coordinator study propose --home C --name s1
    """
    from sonoshare_deploy.coordinator import act, control_of  # noqa: PLC0415
    from sonoshare_deploy.processes import end_on_signals  # noqa: PLC0415
    from sonoshare_server.consortium.registration import register_nodes  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_server.queue.standing import standing  # noqa: PLC0415

    end_on_signals()
    folder = CoordinatorHome(home)
    study = folder.study(name)
    register_nodes(folder, control_of(folder))
    with progress_console().status(f"study {name}: asking the hospitals"):
        act(folder, study, "propose")
    now = standing(folder, study)

    def human(console: "Console") -> None:
        for hospital, answer in now.answers.items():
            why = f": {printable(now.reasons[hospital])}" if now.reasons.get(hospital) else ""
            console.print(f"{hospital}  {answer}{why}", markup=False, highlight=False)

    emit(
        {"study": name, "state": now.state, "answers": dict(now.answers), "reasons": dict(now.reasons)}, as_json, human
    )
    if now.state == "accepted":
        next_step(at_home(home, "coordinator", "study", "run", "--name", name))
    elif now.state in {"asked", "waiting"}:
        next_step(at_home(home, "coordinator", "study", "propose", "--name", name))


@click.command()
@home_option
@name_option
@json_option
def stop(home: Path, name: str, *, as_json: bool) -> None:
    """Stop what runs of a study, from any terminal.

    The study is paused: 'study run' goes on. What hospitals have trained stays with them and is given again, not
    trained or charged twice.

    Example: sonoshare coordinator study stop --home C --name s1
    """
    _become(home, name, "paused", as_json=as_json)


@click.command()
@home_option
@name_option
@json_option
def cancel(home: Path, name: str, *, as_json: bool) -> None:
    """Give a study up for good: no further round, no release.

    Example: sonoshare coordinator study cancel --home C --name s1
    """
    _become(home, name, "cancelled", as_json=as_json)


@click.command(short_help="Close a study that has done its work.")
@home_option
@name_option
@json_option
def retire(home: Path, name: str, *, as_json: bool) -> None:
    """Close a study that has done its work: no further round, no further release; what was released stays.

    Example: sonoshare coordinator study retire --home C --name s1
    """
    _become(home, name, "retired", as_json=as_json)


def _become(home: Path, name: str, state: "Wish", *, as_json: bool) -> None:
    from sonoshare_deploy.study_wishes import become  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_server.queue.wanted import FINAL  # noqa: PLC0415

    folder = CoordinatorHome(home)
    study = folder.study(name)
    now = become(folder, study, state)
    result = {"study": name, "state": now.state, "rounds_done": now.rounds_done, "rounds": now.rounds}
    if state in FINAL:
        from sonoshare_server.queue.spending import spent_at_most  # noqa: PLC0415 - the accountant is heavy

        result |= {"epsilon_spent_at_most": spent_at_most(study), "delta": study.plan.mechanism.delta}

    def human(console: "Console") -> None:
        say = [f"study {name}: {now.state}, {now.rounds_done} of {now.rounds} rounds done"]
        if "delta" in result:
            say.append(
                f"spent: epsilon {result['epsilon_spent_at_most']:.3f} at delta {result['delta']:g} at each hospital "
                "at most; it stays spent, and each ledger says what it was"
            )
        else:
            say.append("what hospitals have trained is kept and given again; go on with: study run")
        for line in say:
            console.print(line, markup=False, highlight=False)

    emit(result, as_json, human)


def _print_standings(console: "Console", found: "list[Standing]") -> None:
    if not found:
        console.print("no study yet: sonoshare coordinator study create", markup=False, highlight=False)
        return
    table = folding_table("study", "state", "rounds", "priority", "hospitals", "what")
    for one in found:
        said = ", ".join(f"{hospital} {answer}" for hospital, answer in one.answers.items())
        table.add_row(
            one.study, one.state, f"{one.rounds_done}/{one.rounds}", str(one.priority), said, printable(one.why)
        )
    console.print(table)
