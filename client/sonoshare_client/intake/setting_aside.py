"""Parent: what an intake sets aside is noted in the vault's quarantine, and what a person has decided is followed.

A file that is set aside again keeps its number; one that is taken in, or was exchanged for another, loses its record.
Where a person has decided about a file of exactly these bytes, this row and this patient, it is read once more without
the reasons that were decided, and only those: any other reason sets it aside again, with what was decided kept.

Rows without a file (none of this name, none with this identifier) are told by the report alone.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sonoshare_client.intake.accepting import ACCEPTABLE
from sonoshare_client.intake.channel import DEVICE_TEXT, Question, Taken
from sonoshare_client.intake.opening import open_checked
from sonoshare_client.intake.pool import FileTask, Pool
from sonoshare_client.intake.reasons import Cause, SetAside
from sonoshare_client.vault.quarantine import NOBODY, Item, Quarantine
from sonoshare_client.vault.writer import VaultWriter
from sonoshare_shared.science.label_table import LabelRow
from sonoshare_shared.science.pictures.bounds import DEFAULT_BOUNDS
from sonoshare_shared.science.pictures.reasons import Reason, Refused

_READ_BYTES: Final = 1 << 20
OF_THE_ROW: Final = frozenset(
    {SetAside.LABEL, SetAside.UNKNOWN_CLASS, SetAside.PATIENT, SetAside.NO_FILE, SetAside.NOBODY}
)
"""What a row says: another table changes it, another look at the file does not."""


@dataclass(frozen=True)
class Origin:
    """Where an intake's files lie.

    Attributes:
        folder: what paths are relative to.
        archive: the ZIP archive that was unpacked, or None.
        unpacked: the folder that it was unpacked into.
    """

    folder: Path
    archive: Path | None = None
    unpacked: Path | None = None

    @property
    def kept(self) -> tuple[str, str]:
        """Archive and folder as a record keeps them."""
        if self.archive is None or self.unpacked is None:
            return "", os.path.realpath(self.folder)
        return os.path.realpath(self.archive), os.path.relpath(self.folder, self.unpacked)


@dataclass
class Noting:
    """Notes what one intake sets aside; nothing is kept before `finish`.

    Attributes:
        quarantine: of the vault.
        writer: the vault's only writer.
        origin: where the files lie.
    """

    quarantine: Quarantine
    writer: VaultWriter
    origin: Origin
    _by_content: dict[tuple[object, ...], Item] = field(init=False)
    _before: tuple[Item, ...] = field(init=False)
    _kept: dict[tuple[object, ...], Item] = field(default_factory=dict, init=False)
    _places: set[tuple[object, ...]] = field(default_factory=set, init=False)
    _taken: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._before = self.quarantine.items()
        self._by_content = {item.content: item for item in self._before if item.sha256}

    def decided(self, row: LabelRow, source: str, cause: Cause) -> Item | None:
        """What a person has decided about this file, row and reason; None where nobody has."""
        if cause not in ACCEPTABLE or not any(item.accepted for item in self._before):
            return None
        item = self._by_content.get(self._of(row, source, cause).content)
        return item if item is not None and cause.name in item.accepted else None

    def set_aside(self, row: LabelRow, source: str, cause: Cause) -> None:
        """Note a row that was set aside."""
        if cause is Reason.MISSING:
            return
        self._note(self._of(row, source, cause))

    def unreadable(self, source: str, cause: Cause) -> None:
        """Note a file whose row is not known, because nothing can be read of it."""
        archive, folder = self.origin.kept
        self._note(Item(0, NOBODY, cause.name, today(), file=source, folder=folder, archive=archive))

    def taken(self, row: LabelRow, source: str, blobs: Sequence[str], decision: Item | None) -> None:
        """Note a row whose pictures are in the vault, by a person's decision or without."""
        self._places.add(self._of(row, source, None).place)
        self._taken += blobs
        if decision is not None:
            pictures = {*decision.pictures, *self.quarantine.pictures_of(blobs)}
            self._kept[decision.content] = replace(decision, waiting=False, pictures=tuple(sorted(pictures)))

    def finish(self) -> None:
        """Keep it, in one transaction.

        Raises:
            InputError: the disk is full.
        """
        kept = {item.number for item in self._kept.values()}
        files = {place[:3] for place in self._places}
        gone = [
            item.number
            for item in self._before
            if item.waiting
            and item.number not in kept
            and (item.place in self._places or (item.pseudonym == NOBODY and item.place[:3] in files))
        ]
        self.writer.flush()
        self.quarantine.keep(self._kept.values(), without=gone)
        self.quarantine.drop(self.quarantine.superseded(self._taken))

    def _note(self, item: Item) -> None:
        self._places.add(item.place)
        earlier = self._by_content.get(item.content) if item.sha256 else None
        if earlier is None and not item.sha256:
            same = (other for other in self._before if other.waiting and not other.sha256 and other.file)
            earlier = next((other for other in same if other.place == item.place), None)
        if earlier is not None:
            since = earlier.since if earlier.waiting and earlier.reason == item.reason else item.since
            item = replace(
                item,
                number=earlier.number,
                since=since,
                accepted=earlier.accepted,
                note=earlier.note,
                given_box=earlier.given_box,
                given_region=earlier.given_region,
                pictures=earlier.pictures,
            )
        self._kept[item.content if item.sha256 else item.place] = item

    def _of(self, row: LabelRow, source: str, cause: Cause | None) -> Item:
        """The record of a row; without its bytes' sha256 where nobody can decide anything about them."""
        archive, folder = self.origin.kept
        patient = row.written or row.patient
        of_file = cause is not None and cause not in OF_THE_ROW
        return Item(
            number=0,
            pseudonym=self.writer.pseudonym(patient) if patient.strip() else NOBODY,
            reason="" if cause is None else cause.name,
            since=today(),
            file=source,
            folder=folder,
            archive=archive,
            sha256=digest_of_file(str(self.origin.folder), source) if of_file else "",
            masks=tuple(os.path.relpath(mask, self.origin.folder) for mask in row.masks),
            label=row.label if of_file else "",
            device=row.device.strip() if DEVICE_TEXT.match(row.device.strip()) else "",
            boxes=row.boxes,
            region=row.region,
            frame=row.frame,
            line=row.line,
        )


def asked_again(row: LabelRow, task: FileTask, decision: Item, pool: Pool) -> Taken | Cause:
    """Read a file without the reasons that a person has decided."""
    question = replace(
        task.question,
        box=task.question.box or decision.given_box,
        region=row.region or decision.given_region,
        accepted=decision.accepted,
    )
    (answer,) = pool.answers([replace(task, question=question)])
    return answer


def question_of(row: LabelRow) -> Question:
    """What a child is asked about a row."""
    return Question(row.image.suffix.lower(), row.box, row.frame, row.region)


def today() -> str:
    """The day, UTC."""
    return datetime.now(UTC).date().isoformat()


def digest_of_file(folder: str, source: str) -> str:
    """Sha256 of a file below a folder; empty where it may not be opened."""
    try:
        descriptor = open_checked(os.path.realpath(folder), source, DEFAULT_BOUNDS.clip_bytes)
    except Refused:
        return ""
    digest = hashlib.sha256()
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def note_unreadable(noting: Noting, aside: Iterable[tuple[str, Cause, int | None]]) -> None:
    """Note files of which nothing could be read, at once."""
    for source, cause, _ in aside:
        if cause not in {SetAside.NO_FILE, Reason.MISSING}:
            noting.unreadable(source, cause)
    noting.finish()
