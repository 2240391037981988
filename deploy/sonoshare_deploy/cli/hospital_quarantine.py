"""``sonoshare hospital quarantine``: what was set aside, and a way back for what a person has looked at.

What is printed is for the hospital's own eyes: paths, reasons, rows; no value of a header, and no patient.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonoshare_deploy.cli.order import InOrder
from sonoshare_deploy.cli.output import emit, json_option
from sonoshare_deploy.cli.parameters import node_home_option
from sonoshare_deploy.cli.progress import counted
from sonoshare_shared.errors import InputError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from sonoshare_client.node.home import NodeHome
    from sonoshare_client.vault.quarantine import Item
    from sonoshare_shared.science.box import Box

_LINES = 40
_item = click.argument("item", type=click.IntRange(min=1))


class _Place(click.ParamType["Box"]):
    """A rectangle in pixels."""

    name = "X,Y,W,H"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> "Box":
        """The box; a usage error where it is none."""
        try:
            return place_of(str(value))
        except InputError as error:
            self.fail(f"{error.message}.", param, ctx)


def place_of(text: str) -> "Box":
    """A rectangle on a screen, written as ``X,Y,W,H`` in pixels.

    Raises:
        InputError: it is none, empty, or outside of every picture.
    """
    from sonoshare_shared.science.box import Box  # noqa: PLC0415 - keeps --help fast, here and below

    example = "write it as X,Y,W,H, in pixels"
    try:
        place = Box.of([float(number) for number in text.split(",")])
    except (ValueError, InputError):
        raise InputError(f"{text!r} is not four numbers, such as 20,30,400,300", remedy=example) from None
    if min(place.x, place.y) < 0 or min(place.w, place.h) <= 0:
        raise InputError(f"{text!r} is empty or outside the picture", remedy=example)
    return place


@click.group(cls=InOrder, short_help="List, show, let in or forget what was set aside.")
def quarantine() -> None:
    """List what was set aside, look at it, let it in or forget it."""


@quarantine.command("list", short_help="List what was set aside.")
@node_home_option
@json_option
def list_items(home_path: Path, *, as_json: bool) -> None:
    """List what was set aside: number, file, row, reason, and whether a person may let it in.

    Example: sonoshare hospital quarantine list --home NODE
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.vault.store import Vault  # noqa: PLC0415

    with Vault(NodeHome.open(home_path)) as vault:
        items = [fields_of(item) for item in vault.quarantine.items()]

    def human(console: "Console") -> None:
        waiting = [fields for fields in items if fields["waiting"]]
        console.print(f"{len(waiting)} wait, {len(items) - len(waiting)} were let in by a person", highlight=False)
        for fields in waiting[:_LINES]:
            console.print(
                f"  {fields['item']}  {_where(fields)}: {fields['reason']}"
                f" [a person may let it in: {fields['may_be_accepted']}]",
                markup=False,
                highlight=False,
            )
        if len(waiting) > _LINES:
            console.print(f"  and {len(waiting) - _LINES} more (--json lists all)", highlight=False)

    emit({"waiting": sum(bool(fields["waiting"]) for fields in items), "items": items}, as_json, human)


@quarantine.command("show", short_help="Write what was set aside as a PNG.")
@_item
@node_home_option
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="PNG to write; a new file.")
@json_option
def show_item(item: int, home_path: Path, out: Path, *, as_json: bool) -> None:
    """Write ITEM as it is decoded, the whole screen, for the hospital's own eyes. NOT de-identified.

    Example: sonoshare hospital quarantine show 3 --home NODE --out 3.png
    """
    from sonoshare_client.intake.deciding import show  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415

    fields = fields_of(show(NodeHome.open(home_path), item, out))

    def human(console: "Console") -> None:
        console.print(f"{out}: {_where(fields)}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"  set aside because {fields['reason']}", markup=False, highlight=False)
        console.print("  patient data in the clear. Look, then delete.", markup=False, highlight=False)

    emit(fields | {"picture": str(out)}, as_json, human)


@quarantine.command("accept", short_help="Let in what you have looked at.")
@_item
@node_home_option
@click.option("--note", default="", help="Why; kept with the decision, in the node.")
@click.option("--region", type=_Place(), help="Where the ultrasound picture is on the screen, in pixels.")
@click.option("--box", type=_Place(), help="Where the lesion is, in pixels.")
@json_option
def accept_item(
    *, item: int, home_path: Path, note: str, region: "Box | None", box: "Box | None", as_json: bool
) -> None:
    """Let ITEM in although intake set it aside, and take it in at once.

    Only for reasons that a person may decide about by looking (docs/intake-reasons.md). The decision is about this very
    file, row and reason: another file of the same name is judged anew.

    Example: sonoshare hospital quarantine accept 3 --home NODE --note "seen"
    """
    from sonoshare_client.intake.deciding import accept  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415

    report = accept(NodeHome.open(home_path), item, note=note, region=region, box=box)
    aside = () if report is None else report.quarantined
    pictures = 1 if report is None else report.accepted
    result = {
        "item": item,
        "accepted": pictures,
        "duplicates": 0 if report is None else report.duplicates,
        "quarantined": [{"source": one.source, "reason": one.reason, "line": one.line} for one in aside],
    }

    def human(console: "Console") -> None:
        if not aside:
            console.print(f"item {item}: {pictures} pictures taken in", highlight=False)

    emit(result, as_json, human)
    if aside:
        raise InputError(
            f"item {item} is set aside for another reason now: {aside[0].reason}",
            remedy="what you decided is kept; decide about this reason, too, or follow what it says",
        )


@quarantine.command("drop", short_help="Forget that something was set aside.")
@_item
@node_home_option
@json_option
def drop_item(item: int, home_path: Path, *, as_json: bool) -> None:
    """Forget that ITEM was set aside. Your files stay; of the node's own inbox the file is removed.

    Example: sonoshare hospital quarantine drop 3 --home NODE
    """
    from sonoshare_client.intake.deciding import drop  # noqa: PLC0415
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415

    removed = drop(NodeHome.open(home_path), item)

    def human(console: "Console") -> None:
        console.print(f"item {item} is forgotten{', and its file in the inbox is gone' if removed else ''}")

    emit({"item": item, "file_removed": removed}, as_json, human)


def fields_of(item: "Item") -> dict[str, object]:
    """An item as it is printed."""
    from sonoshare_client.intake.accepting import cause_of, may_be_accepted  # noqa: PLC0415

    cause = cause_of(item.reason)
    return {
        "item": item.number,
        "source": item.file or None,
        "line": item.line,
        "folder": (item.archive or item.folder) or None,
        "reason": item.reason if cause is None else cause.value,
        "may_be_accepted": "no" if cause is None else may_be_accepted(cause),
        "waiting": item.waiting,
        "since": item.since,
        "accepted": list(item.accepted),
        "note": item.note,
    }


def _where(fields: dict[str, object]) -> str:
    source = fields["source"] or "a picture that was in the vault"
    return f"{source}" if fields["line"] is None else f"{source} (line {fields['line']})"


def take_again(home: "NodeHome", jobs: int, device: "torch.device", *, as_json: bool) -> None:
    """What ``hospital ingest --again`` does: try once more what was set aside, re-check what older rules took in."""
    from sonoshare_client.intake.again import recheck, try_again  # noqa: PLC0415

    with counted("files that were set aside") as work:
        # Files first: one that passes now comes in whole, and needs no decision about the picture it was.
        tried = try_again(home, jobs=jobs, device=device)
        work.stage("re-check")
        checked = recheck(home, jobs=jobs, progress=work)
    counts = counts_of(home)

    def human(console: "Console") -> None:
        console.print(
            f"tried again: {tried.taken} pictures taken in, {tried.aside} files set aside as before or anew, "
            f"{tried.gone} not where they were",
            highlight=False,
        )
        if tried.by_row:
            console.print(
                f"{tried.by_row} were set aside for what their rows say: correct the labels, ingest their folder again",
                highlight=False,
            )
        console.print(
            f"of older rules: {checked.passed} pictures pass today's, {checked.aside} do not and are set aside",
            highlight=False,
        )
        if checked.unjudged:
            console.print(f"{checked.unjudged} could not be judged here, and are as they were", highlight=False)
        if tried.aside or checked.aside:
            console.print("see: sonoshare hospital quarantine list", highlight=False)

    emit({"tried": asdict(tried), "rechecked": asdict(checked), **counts}, as_json, human)


def counts_of(home: "NodeHome") -> dict[str, int | None]:
    """How much waits, and how much is of other rules than today's; read without the vault's key."""
    from sonoshare_client.intake.rules import rules_of  # noqa: PLC0415
    from sonoshare_client.vault.store import rule_counts  # noqa: PLC0415

    counts = rule_counts(home, rules_of(home.policy().intake))
    if counts is None:  # no vault yet, or one that nobody has opened since rules are written down
        return {"quarantined": None, "older_rules": None, "other_policy": None}
    return {"quarantined": counts.waiting, "older_rules": counts.older, "other_policy": counts.other_policy}


def said_of(counts: dict[str, int | None]) -> str:
    """The counts in one line."""
    if counts["quarantined"] is None:
        return "nothing was taken in yet, or this has still to bring the vault up to date: sonoshare hospital status"
    text = f"{counts['quarantined']} wait; see: sonoshare hospital quarantine list"
    if counts["older_rules"]:
        text += f". {counts['older_rules']} images are of older rules: sonoshare hospital ingest --again"
    if counts["other_policy"]:
        text += f". {counts['other_policy']} images are of other [intake] lines of policy.toml: ingest their folders"
    return text
