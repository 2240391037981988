"""``sonoshare coordinator status`` and ``study status``: who is there, what runs, who is awaited; within a second."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sonoshare_deploy.cli.coordinator_release import home_option
from sonoshare_deploy.cli.event_words import about
from sonoshare_deploy.cli.output import emit, folding_table, json_option
from sonoshare_deploy.cli.parameters import IDENTIFIER_NAME

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_deploy.coordinator_view import CoordinatorView

_EVENTS: Final = 20
_APART: Final = frozenset({"time", "kind", "hospital", "level", "run"})
"""Fields of an event that have a column of their own, or say nothing to a person."""


@click.command(short_help="Show hospitals, studies, releases and what ends.")
@home_option
@json_option
def status(home: Path, *, as_json: bool) -> None:
    """Show who is admitted, online and last heard, what runs and who is awaited, releases, and what ends soon.

    Example: sonoshare coordinator status --home C
    """
    from sonoshare_deploy.coordinator_view import coordinator_view  # noqa: PLC0415 - keeps --help fast, here and below
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    now = datetime.now(UTC)
    view = coordinator_view(CoordinatorHome(home), now)
    emit(_fields(view, now), as_json, lambda console: _print(console, view, now))


def _fields(view: "CoordinatorView", now: datetime) -> dict[str, object]:
    return {
        "hospitals": [member.id for member in view.members],
        "studies": [asdict(one) | {"rounds_done": one.rounds_done} for one in view.studies],
        "releases": list(view.releases),
        "running": view.running,
        "roster_version": view.roster_version,
        "members": [
            {
                "id": member.id,
                "registered": member.registered,
                "online": member.online,
                "last_heard": None if member.last_heard is None else member.last_heard.isoformat(timespec="seconds"),
            }
            for member in view.members
        ],
        "expiries": {ending.name: ending.days_left(now) for ending in view.expiries},
    }


def _print(console: "Console", view: "CoordinatorView", now: datetime) -> None:
    from sonoshare_deploy.cli.durations import ago  # noqa: PLC0415

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"coordinator  {'running' if view.running else 'stopped (sonoshare coordinator start)'}")
    roster = "none yet" if view.roster_version is None else f"version {view.roster_version}"
    say(f"roster       {roster}; {len(view.members)} hospitals")
    if view.members:
        table = folding_table("hospital", "registered", "online", "last heard")
        for member in view.members:
            online = {True: "yes", False: "no", None: "?"}[member.online]
            heard = "never" if member.last_heard is None else ago(member.last_heard, now)
            table.add_row(member.id, "yes" if member.registered else "no", online, heard)
        console.print(table)
    if view.studies:
        table = folding_table("study", "state", "rounds", "does", "answered", "awaited")
        for one in view.studies:
            rounds = f"{one.rounds_done} of {one.rounds}"
            said = (", ".join(some) or "-" for some in (one.answered, one.awaited))
            table.add_row(one.study, one.state, rounds, one.does or "-", *said)
        console.print(table)
    say(f"releases     {', '.join(view.releases) or 'none'}")
    for ending in view.expiries:
        days = ending.days_left(now)
        left = f"{days} days left" if days >= 0 else "ENDED"
        words = f"  ({ending.remedy})" if ending.warns(now) else ""
        say(f"{ending.name.replace('-', ' ')}: until {ending.until.date()}, {left}{words}")


@click.command(name="status")
@home_option
@click.option("--name", type=IDENTIFIER_NAME, required=True, help="Identifier of the study.")
@json_option
def study_status(home: Path, name: str, *, as_json: bool) -> None:
    """How far a study is, who is awaited, and its last events.

    Example: sonoshare coordinator study status --home C --name s1
    """
    from sonoshare_deploy.coordinator_view import study_view  # noqa: PLC0415
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415

    folder = CoordinatorHome(home)
    this = folder.study(name)
    events = this.events()
    fields = asdict(study_view(folder, this, events))
    emit(fields | {"events": events[-_EVENTS:]}, as_json, lambda console: _print_study(console, fields, events))


def _print_study(console: "Console", view: dict[str, Any], events: list[dict[str, Any]]) -> None:
    from sonoshare_deploy.cli.durations import moment  # noqa: PLC0415

    said = f"study {view['study']}: {view['state']}, {view['rounds_done']} of {view['rounds']} rounds done"
    doing = f"; {view['why']}" if view["why"] else ""
    console.print(said + doing, markup=False, highlight=False, soft_wrap=True)
    if view["awaited"]:
        until = f", until {moment(view['until'])}" if view["until"] else ""
        console.print(
            f"answered: {', '.join(view['answered']) or 'nobody yet'}; awaited: {', '.join(view['awaited'])}{until}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    table = folding_table("time (UTC)", "event", "hospital", "about")
    for event in events[-_EVENTS:]:
        when = str(event.get("time", ""))[:19].replace("T", " ")
        table.add_row(when, event["kind"], event.get("hospital", ""), about(event, _APART))
    if events:
        console.print(table)
