"""``sonoshare hospital status``: the node at a glance, within about a second, for the hospital's own eyes."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sonoshare_deploy.cli.durations import ago, lasting
from sonoshare_deploy.cli.hospital_quarantine import counts_of, said_of
from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.parameters import node_home_option
from sonoshare_deploy.cli.pasted import pasted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from sonoshare_client.node.home import NodeHome
    from sonoshare_client.node.socket import Pulse
    from sonoshare_client.own_eyes.link_view import LinkView
    from sonoshare_client.own_eyes.overview import LedgerOverview, NodeOverview

ROSTER_WARNED_DAYS: Final = 30


@dataclass(frozen=True)
class Look:
    """What a node shows at a glance, and when that was.

    Attributes:
        overview: vault and ledger.
        view: agent, link and roster.
        now: the present.
        quarantine: what waits, and what is of other rules; each None where nothing was taken in yet.
    """

    overview: "NodeOverview"
    view: "LinkView"
    now: datetime
    quarantine: dict[str, int | None]


@click.command(short_help="Show link, agent, vault and budget.")
@node_home_option
@json_option
def status(home_path: Path, *, as_json: bool) -> None:
    """Show the link to the federation, whether the agent lives, what the vault holds and what is left of the budget.

    What it shows of patients is for the hospital's own eyes. It reads what the running node keeps and asks nobody
    outside; to test the connection now: sonoshare hospital check.

    Example: sonoshare hospital status --home NODE
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast, here and below

    home = NodeHome.open(home_path)
    look = look_at(home)
    emit(_fields(look), as_json, lambda console: _print(console, look, home))


def evidence_check(home: "NodeHome", digest: str) -> str:
    """The command that says what a node's evidence proves."""
    return pasted("verify", home.state.evidence_path / f"{digest}.json", "--roster", home.state.roster_path)


def look_at(home: "NodeHome") -> Look:
    """Look at a node, within about a second.

    Raises:
        InputError: its vault or policy cannot be opened.
    """
    from sonoshare_client.own_eyes.link_view import link_view  # noqa: PLC0415
    from sonoshare_client.own_eyes.overview import node_overview  # noqa: PLC0415

    return Look(node_overview(home, lambda: datetime.now(UTC)), link_view(home), datetime.now(UTC), counts_of(home))


def _fields(look: Look) -> dict[str, object]:
    overview, view, record = look.overview, look.view, look.overview.ledger
    link, roster = view.link, view.roster
    return {
        "patients": overview.patients,
        "held_out": overview.held_out,
        "images": overview.images,
        "twins": overview.twins,
        "held_back": overview.held_back,
        "studies": list(record.studies),
        "budget": {
            "epsilon": record.budget.epsilon,
            "delta": record.budget.delta,
            "spent": None if record.spent is None else record.spent.epsilon,
            "spent_is_exact": record.exact,
        },
        "connection": view.connection(look.now),
        "link": None
        if link is None
        else {
            "superlink": link.superlink,
            "since": link.since.isoformat(timespec="seconds"),
            "looked": link.looked.isoformat(timespec="seconds"),
            "last_contact": None if link.last_contact is None else link.last_contact.isoformat(timespec="seconds"),
            "admitted": link.admitted,
            "cause": link.cause or None,
            "remedy": link.remedy or None,
        },
        "agent": {"state": view.agent.state, "busy_seconds": view.agent.busy},
        "last_request": None
        if view.last_request is None
        else {"time": view.last_request[0], "kind": view.last_request[1]},
        "roster": None
        if roster is None
        else {
            "consortium": roster.consortium,
            "version": roster.version,
            "newest": None if link is None else link.roster_version,
            "expires": roster.expires.isoformat(timespec="seconds"),
        },
        "evidence": overview.evidence,
        **look.quarantine,
    }


def _print(console: "Console", look: Look, home: "NodeHome") -> None:
    rows = list(rows_of(look))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:  # whole lines, whatever the window: commands in them can be copied
        console.print(f"{name:{width}}  {text}", markup=False, highlight=False, soft_wrap=True)
    evidence = look.overview.evidence
    if evidence is not None:
        check = evidence_check(home, evidence)
        console.print(
            f"stopped  it holds evidence of misconduct: {check}; see docs/witness.md",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def rows_of(look: Look) -> "Iterator[tuple[str, str]]":
    """The same in words: a name, and what is to be said."""
    overview, record = look.overview, look.overview.ledger
    yield "link", _link(look)
    yield "agent", _agent(look.view.agent)
    if look.view.last_request is not None:
        yield "last request", f"{look.view.last_request[1]}, {ago(look.view.last_request[0], look.now)}"
    yield "roster", _roster(look)
    yield "studies", ", ".join(record.studies) or "none charged yet"
    yield "budget", f"epsilon {record.budget.epsilon:g} at delta {record.budget.delta:g}; spent {_spent(record)}"
    yield "patients", f"{overview.patients}, {overview.held_out} of them held out; {overview.images} images"
    yield "twins", f"{overview.twins} undecided pairs, {overview.held_back} held back; see: sonoshare hospital twins"
    yield "set aside", said_of(look.quarantine)


def _spent(record: "LedgerOverview") -> str:
    if record.spent is None:
        return f"unknown: {record.broken}"
    said = f"{record.spent.epsilon:.3f}"
    return said if record.exact else f"at most {said} (exactly: sonoshare hospital ledger)"


def _link(look: Look) -> str:
    link, word = look.view.link, look.view.connection(look.now)
    if link is None:
        return "stopped: this node was never started (sonoshare hospital start)"
    contact = "never reached" if link.last_contact is None else f"last contact {ago(link.last_contact, look.now)}"
    if word == "stopped":
        looked = ago(link.looked, look.now)
        return f"stopped: {link.superlink} was last tried {looked}; {contact} (sonoshare hospital start)"
    words = {"turned-away": "turned away by", "down": "no link to", "connected": "connected to"}
    text = f"{words.get(word, 'connecting to')} {link.superlink} for {lasting(link.since, look.now)}"
    return text if not link.cause else f"{text}: {link.cause} ({link.remedy}); {contact}"


def _agent(pulse: "Pulse") -> str:
    if pulse.state == "hung":
        return "hung: it does not answer within a second (end it and start the node again)"
    if pulse.state == "stopped":
        return "stopped (sonoshare hospital start)"
    return "answering" if pulse.busy is None else f"answering; at a request for {pulse.busy:.0f} s"


def _roster(look: Look) -> str:
    roster, link = look.view.roster, look.view.link
    if roster is None:
        return look.view.unenrolled
    text = f"{roster.consortium}, version {roster.version}, until {roster.expires.date()}"
    if (roster.expires - look.now).days < ROSTER_WARNED_DAYS:
        text += " (ask the coordinator for a new one: nothing is done under one that has expired)"
    if link is not None and link.roster_version is not None and link.roster_version > roster.version:
        return f"{text}; the coordinator has version {link.roster_version}: get it, and enrol again"
    return text
