"""Parent: after a rule changed, what was set aside is tried again, and what was taken in is held against today's rules.

    tried = try_again(home)          # files of the quarantine, by the rows that they had
    rechecked = recheck(home)        # pictures of the vault that were taken under an older version (rules.RULES)

What the vault keeps of a picture is a picture, not its file: today's bounds and today's reading of text are held
against it, by the same limited child, and with what a person decided about it. Rules about the file itself (decoding,
regions, colour, masks) are held against it when its folder is ingested again.

A picture that fails moves to the quarantine and takes part in nothing; text that is found now sets it aside rather than
being taken out, because the vault's picture must stay the one that its file gives. What cannot be judged (no reader is
installed, a child that dies) stays as it is, and is told. What training has learnt stays; the ledger has paid for it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sonoshare_client.intake.accepting import BY_LOOKING, text_is_accepted
from sonoshare_client.intake.channel import Question, Taken
from sonoshare_client.intake.deciding import empty_inbox, is_there, opened_origin, row_of
from sonoshare_client.intake.ingest import ingest_table
from sonoshare_client.intake.limits import DEFAULT_LIMITS
from sonoshare_client.intake.pool import FileTask, Pool
from sonoshare_client.intake.reasons import Cause
from sonoshare_client.intake.rules import RULES
from sonoshare_client.intake.setting_aside import OF_THE_ROW, digest_of_file, today
from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.quarantine import NOBODY, Item
from sonoshare_client.vault.rules import Rules
from sonoshare_client.vault.store import ImageRef, Vault
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.imaging import png_bytes
from sonoshare_shared.science.label_table import LabelTable
from sonoshare_shared.science.pictures.reasons import Reason

if TYPE_CHECKING:
    import torch

_JUDGED: Final = BY_LOOKING | {Reason.SMALL, Reason.TEXT_PAGE}
"""Reasons that say something of a picture; any other says that it could not be judged."""
_ROW_NAMES: Final = frozenset(reason.name for reason in OF_THE_ROW)


@dataclass(frozen=True)
class Tried:
    """What became of files that had been set aside.

    Attributes:
        taken: pictures that are in the vault now.
        aside: files that are set aside as before, or for another reason.
        gone: files that are not where they were.
        by_row: files that were set aside for what their row says: their folder must be ingested again.
    """

    taken: int = 0
    aside: int = 0
    gone: int = 0
    by_row: int = 0


@dataclass(frozen=True)
class Rechecked:
    """What became of the vault's pictures of older rules.

    Attributes:
        passed: they pass today's.
        aside: they do not, and are set aside.
        unjudged: they could not be judged, and are as they were.
    """

    passed: int = 0
    aside: int = 0
    unjudged: int = 0


def try_again(home: NodeHome, *, jobs: int = 1, device: "torch.device" = CPU) -> Tried:
    """Take the files of the quarantine that wait through intake once more, each by the row that it had.

    Raises:
        InputError: as ``ingest``.
    """
    with Vault(home) as vault:
        waiting = [item for item in vault.quarantine.items() if item.waiting and item.image is None]
    by_row = [item for item in waiting if item.reason in _ROW_NAMES or item.pseudonym == NOBODY]
    taken = aside = gone = 0
    for items in _by_origin(item for item in waiting if item not in by_row):
        if not is_there(items[0]):
            gone += len(items)
            continue
        with opened_origin(home, items[0]) as origin:
            there = [item for item in items if digest_of_file(str(origin.folder), item.file)]
            rows = tuple(row_of(item, origin.folder) for item in there)
            table = LabelTable(origin.folder, rows)
            report = ingest_table(home, table, jobs=jobs, device=device, origin=origin)
        gone, taken, aside = gone + len(items) - len(there), taken + report.accepted, aside + len(report.quarantined)
        for item in there:
            empty_inbox(home, item, report)
    return Tried(taken, aside, gone, len(by_row))


def _by_origin(items: Iterable[Item]) -> Iterator[list[Item]]:
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.archive, item.folder), []).append(item)
    yield from groups.values()


def recheck(
    home: NodeHome, *, jobs: int = 1, progress: Callable[[int, int], None] | None = None, rules: int = RULES
) -> Rechecked:
    """Hold pictures of older rules against today's.

    Args:
        home: the node.
        jobs: child processes.
        progress: told after each picture.
        rules: version of today's.

    Raises:
        InputError: another intake at work, or the disk is full; what was done stays.
    """
    passed: list[str] = []
    aside = unjudged = 0
    with (
        Vault(home) as vault,
        vault.writing(Rules(rules, "")) as writer,
        Pool(jobs, str(home.path), DEFAULT_LIMITS, ()) as pool,
    ):
        older = vault.taken_before(rules)
        decisions = _decisions(vault, older)
        tasks = (_task(vault, ref, accepted) for ref, accepted in zip(older, decisions, strict=True))
        for done, (ref, answer) in enumerate(zip(older, pool.answers(tasks), strict=True), start=1):
            accepted = decisions[done - 1]
            cause = _cause(answer, accepted)
            if cause is None:
                passed.append(ref.blob)
            elif cause in _JUDGED:
                vault.quarantine.move_here(ref.blob, cause.name, today(), accepted)
                aside += 1
            else:
                unjudged += 1
            if progress is not None:
                progress(done, len(older))
        writer.passed(passed)
    return Rechecked(len(passed), aside, unjudged)


def _decisions(vault: Vault, refs: Sequence[ImageRef]) -> list[tuple[str, ...]]:
    """What a person has decided about each picture."""
    decided = {picture: item.accepted for item in vault.quarantine.items() for picture in item.pictures}
    pictures = [vault.quarantine.pictures_of([ref.blob]) for ref in refs]
    return [next((decided[picture] for picture in found if picture in decided), ()) for found in pictures]


def _task(vault: Vault, ref: ImageRef, accepted: tuple[str, ...]) -> FileTask:
    """Nothing vouches for a PNG, so the child looks through it for text, as intake does with one."""
    image = vault.load(ref)
    height, width = image.pixels.shape
    question = Question(".png", None, region=Box(0, 0, width, height), accepted=accepted)
    return FileTask("", (), question, content=lambda: png_bytes(image.pixels))


def _cause(answer: Taken | Cause, accepted: tuple[str, ...]) -> Cause | None:
    """Why a picture does not pass; None where it does."""
    if not isinstance(answer, Taken):
        return answer
    found_text = any(image.blanked for image in answer.images.values())
    return Reason.TEXT_REMAINS if found_text and not text_is_accepted(accepted) else None
