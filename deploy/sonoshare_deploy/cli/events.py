"""``sonoshare hospital events`` and ``sonoshare coordinator events``: what happened, from the event logs of a folder.

Everything is imported inside the commands, so that ``--help`` is fast.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sonoshare_deploy.cli.event_words import about
from sonoshare_deploy.cli.output import emit, folding_table, json_option
from sonoshare_deploy.cli.typed import typed

if TYPE_CHECKING:
    from rich.console import Console

POLL_SECONDS: Final = 0.5
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_STYLES: Final = {"warning": "yellow", "error": "red"}
Logs = Callable[[], Mapping[str, Path]]
"""The event logs there are now, by the study that each is of; the role's own has no study."""


class _Moment(click.ParamType[datetime]):
    """A moment: so long ago, or a day or time (UTC where it names no zone)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment, aware; a usage error where it is none."""
        if isinstance(value, datetime):
            return value
        if ago := re.fullmatch(r"(\d{1,6})([mhdw])", value):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"'{value}' is neither like 30m, 12h, 7d, 2w nor like 2026-11-28 or 2026-11-28T09:30.", param, ctx
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_home_option = click.option(
    "--home", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder of the node or server."
)
APART: Final = ("time", "level", "kind", "run")
_since_option = click.option("--since", type=_Moment(), help="From then on: 30m, 12h, 7d, 2w, or a day or time (UTC).")
_last_option = click.option("--last", default=100, show_default=True, type=click.IntRange(1), help="At most so many.")
_follow_option = click.option("--follow", is_flag=True, help="Then go on with what happens, until interrupted.")


@click.command("events", short_help="What was asked, answered and refused.")
@_home_option
@_since_option
@_last_option
@_follow_option
@json_option
def hospital_events(home: Path, *, since: datetime | None, last: int, follow: bool, as_json: bool) -> None:
    """What was asked of this node, what it answered and refused and why, and how its parts ran.

    For the hospital's own eyes: times tell how long work took, which grows with the number of patients.

    Example: sonoshare hospital events --home NODE
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415

    path = NodeHome.open(home).state.events_path
    _show(lambda: {"": path}, since, last, follow=follow, as_json=as_json)


@click.command("events", short_help="Rounds, answers, refusals, restarts.")
@_home_option
@_since_option
@_last_option
@_follow_option
@click.option("--study", help="Of this study alone.")
@json_option
def coordinator_events(
    home: Path, *, since: datetime | None, last: int, follow: bool, study: str | None, as_json: bool
) -> None:
    """What happened in all studies, and how the coordinator's parts ran.

    Example: sonoshare coordinator events --home C
    """
    from sonoshare_server.home import CoordinatorHome  # noqa: PLC0415
    from sonoshare_shared.errors import InputError  # noqa: PLC0415

    folder = CoordinatorHome(home)

    def logs() -> Mapping[str, Path]:
        found = {path.parent.name: path for path in sorted(folder.studies_path.glob("*/events.jsonl"))}
        return {"": folder.events_path, **found} if study is None else {study: found.get(study, Path())}

    if study is not None and not (folder.studies_path / study).is_dir():
        raise InputError(f"there is no study {study}", remedy="see: sonoshare coordinator study list")
    _show(logs, since, last, follow=follow, as_json=as_json)


def _show(logs: Logs, since: datetime | None, last: int, *, follow: bool, as_json: bool) -> None:
    from sonoshare_shared.events import EventLog, Follower  # noqa: PLC0415

    # Followed from before they are read: nothing falls between.
    followers = {path: Follower(path) for path in logs().values()}
    events = [_of(study, event) for study, path in logs().items() for event in EventLog(path).events()]
    events = sorted((event for event in events if _is_after(event, since)), key=lambda event: str(event["time"]))[
        -last:
    ]
    if not follow:
        emit({"events": events}, as_json, lambda console: _print_table(console, events))
        return
    _print_lines(events, as_json=as_json)
    while True:
        time.sleep(POLL_SECONDS)
        for study, path in logs().items():
            follower = followers.setdefault(path, Follower(path, from_start=path not in followers))
            _print_lines([_of(study, event) for event in follower.new()], as_json=as_json)


def _of(study: str, event: dict[str, Any]) -> dict[str, Any]:
    return {"time": "", "level": "info", **event, **({"study": study} if study else {})}


def _is_after(event: Mapping[str, Any], since: datetime | None) -> bool:
    if since is None:
        return True
    try:
        return datetime.fromisoformat(str(event["time"])) >= since
    except (TypeError, ValueError):  # not a time, or one without a zone: another program's
        return False


def when(event: Mapping[str, Any]) -> str:
    """The moment of an event, to the second (UTC)."""
    return str(event["time"])[:19].replace("T", " ")


def _print_table(console: "Console", events: list[dict[str, Any]]) -> None:
    from rich.text import Text  # noqa: PLC0415

    table = folding_table("time (UTC)", "event", "details")
    for event in events:
        style = _STYLES.get(str(event["level"]), "")
        table.add_row(when(event), Text(str(event["kind"]), style=style), Text(typed(about(event, APART)), style=style))
    console.print(table if events else "nothing yet")


def _print_lines(events: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    from sonoshare_shared.events import details  # noqa: PLC0415

    for event in events:
        click.echo(json.dumps(event) if as_json else f"{when(event)} {event['kind']} {typed(details(event))}")
