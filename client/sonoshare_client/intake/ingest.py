"""Parent: from a folder of pictures to the vault.

Each row of the labels is one picture, or a clip that gives a few. It is stored, counted as a duplicate, or set aside
with a reason; nothing is lost silently, and one bad file stops nothing. A clip is stored whole or not at all. What is
stored is complete whenever intake dies; running it again goes on where it stopped, because what is in the vault already
counts as a duplicate.

Reports, progress and errors name paths relative to the source folder and reasons from a closed list: no value of a
header, no patient.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sonoshare_client.intake import doubts
from sonoshare_client.intake.channel import DEVICE_TEXT, Taken
from sonoshare_client.intake.emptying import remove_taken
from sonoshare_client.intake.joining import joined
from sonoshare_client.intake.limits import DEFAULT_LIMITS, Limits
from sonoshare_client.intake.pool import CHILD, FileTask, Pool
from sonoshare_client.intake.reasons import Cause, Flag, SetAside
from sonoshare_client.intake.report import IngestReport, LikelyTwin, Quarantined
from sonoshare_client.intake.rules import rules_of
from sonoshare_client.intake.setting_aside import Noting, Origin, asked_again, note_unreadable, question_of
from sonoshare_client.intake.twins import compare_new
from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.quarantine import Item
from sonoshare_client.vault.store import TwinRecord, Vault
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_client.vault.writer import Added, VaultWriter
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.keyed_labels import is_keyed, read_keyed
from sonoshare_shared.science.label_table import LabelRow, LabelTable
from sonoshare_shared.science.labels import LABELS_FILE, has_labels, read_labels
from sonoshare_shared.science.pictures.reasons import Reason

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]
"""Called with the number of pictures done and in all."""

_CLASS_TEXT: Final = re.compile(r"^[A-Za-z0-9 ._/+()-]{1,64}$")
EARLIER: Final = "earlier intake"
_PICTURE_SUFFIXES: Final = ("", ".dcm", ".dicom", ".png", ".jpg", ".jpeg")
_REASON_OF: Final = {
    Added.OTHER_CLASS: SetAside.OTHER_CLASS,
    Added.OTHER_PATIENT: SetAside.OTHER_PATIENT,
    Added.OTHER_PICTURE: SetAside.OTHER_PICTURE,
}


@dataclass
class _Tally:
    table: LabelTable
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    classified: int = 0
    waiting: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    flagged: list[Quarantined] = field(default_factory=list)
    patients: set[str] = field(default_factory=set)
    sources: dict[str, str] = field(default_factory=dict)
    """Source of each picture by the blob that keeps it."""
    passed: list[str] = field(default_factory=list)
    """Blobs of pictures that the vault has, and that passed today's rules."""
    noting: Noting | None = None
    same: list[tuple[str, str]] = field(default_factory=list)
    """Blobs whose very picture came again under another patient, and that one's pseudonym."""

    def aside(self, row: LabelRow, source: str, cause: Cause) -> None:
        """Set a row aside."""
        self.quarantined.append(Quarantined(source, cause.value, row.line))
        if self.noting is not None:
            self.noting.set_aside(row, source, cause)

    def report(self, twins: Iterable[TwinRecord], uncompared: int) -> IngestReport:
        return IngestReport(
            accepted=self.accepted,
            quarantined=tuple(self.quarantined),
            flagged=tuple(self.flagged),
            patients=len(self.patients),
            duplicates=self.duplicates,
            conflicts=self.conflicts,
            classified=self.classified,
            waiting=self.waiting,
            twins=tuple(self._twin(twin) for twin in twins if not twin.two_people),
            uncompared=uncompared,
        )

    def doubt(self, table: LabelTable, sound: Iterable[LabelRow]) -> None:
        """Flag what is doubtful about the patients of the rows that are not set aside."""
        rest = replace(table, rows=tuple(sound))
        for place, reason in sorted(doubts.doubts(rest).items()):
            row = rest.rows[place]
            self.flagged.append(Quarantined(_relative(row.image, table), reason, row.line))

    def _twin(self, twin: TwinRecord) -> LikelyTwin:
        first, second = (self.sources.get(ref.blob, EARLIER) for ref in (twin.first, twin.second))
        return LikelyTwin(twin.number, (first, second), round(twin.score, 3))


def ingest(
    home: NodeHome,
    source: Path,
    labels_csv: Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    limits: Limits = DEFAULT_LIMITS,
    device: "torch.device" = CPU,
    archive: Path | None = None,
) -> IngestReport:
    """Take in a folder; of the node's own inbox what is taken in with a class is removed.

    Args:
        home: the node.
        source: folder with the pictures; with ``labels.csv`` or a BUS-BRA table, unless ``labels_csv`` is given.
            Without any of them its DICOM objects are taken in without a class, and wait for one.
        labels_csv: the table, whose paths are relative to its own folder, or which names no file (keyed_labels.py).
        classes: a row of another class is set aside; any class if None.
        jobs: child processes.
        progress: told after each picture.
        limits: bounds of intake.
        device: where pictures are compared for twins.
        archive: the ZIP archive that the folder was unpacked from, or None.

    Raises:
        InputError: no usable labels, no key, another intake at work, or the disk is full.
    """
    if not source.is_dir():
        raise InputError(f"{source.name} is not a folder", remedy="give the folder that holds the pictures")
    table, aside = _rows(home, source, labels_csv, jobs, limits)
    origin = Origin(table.folder, archive, source if archive else None)
    report = ingest_table(
        home, table, classes=classes, jobs=jobs, progress=progress, limits=limits, device=device, origin=origin
    )
    if aside:
        with Vault(home) as vault, vault.writing() as writer:
            note_unreadable(Noting(vault.quarantine, writer, origin), aside)
    words = [Quarantined(name, cause.value, line) for name, cause, line in aside]
    seen = {one.source for one in words}
    if source.resolve() == home.inbox_path.resolve():
        remove_taken(home.inbox_path, table, (one.source for one in report.quarantined))
    return replace(
        report,
        quarantined=(*words, *report.quarantined),
        unlisted=tuple(name for name in _unlisted(source, table) if name not in seen),
    )


def _rows(
    home: NodeHome, source: Path, labels_csv: Path | None, jobs: int, limits: Limits
) -> tuple[LabelTable, tuple[tuple[str, Cause, int | None], ...]]:
    """The rows of a folder, whatever names its pictures: paths, headers, or nothing."""
    given = labels_csv or source / LABELS_FILE
    keyed = read_keyed(given) if given.is_file() and is_keyed(given) else None
    if keyed is None and (labels_csv is not None or has_labels(source)):
        return read_labels(labels_csv or source, leave_out_absent=True), ()
    files = [path for path in sorted(source.rglob("*")) if _may_be_picture(path)]
    with Pool(jobs, str(source), limits, home.policy().intake.devices) as pool:
        found = joined(source, files, keyed, pool)
    if keyed is None and not found.table.rows:
        return read_labels(source), ()  # says what is missing
    return found.table, found.aside


def ingest_table(
    home: NodeHome,
    table: LabelTable,
    *,
    classes: Sequence[str] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    limits: Limits = DEFAULT_LIMITS,
    command: Sequence[str] = CHILD,
    device: "torch.device" = CPU,
    origin: Origin | None = None,
) -> IngestReport:
    """Take in the rows of a table.

    Args:
        home: the node.
        table: rows whose files lie in ``table.folder``.
        classes: a row of another class is set aside; any class if None.
        jobs: child processes.
        progress: told after each picture.
        limits: bounds of intake.
        command: what starts a child.
        device: where pictures are compared for twins.
        origin: where the files lie for good; in ``table.folder`` if absent.

    Raises:
        InputError: no key, another intake at work, or the disk is full; what was stored stays, and is complete.
    """
    if jobs < 1:
        raise InputError("at least one job is needed", remedy="give --jobs 1 or more")
    tally, total = _Tally(table), len(table)
    tally.quarantined += [Quarantined(one.name, Reason.MISSING.value, one.line) for one in table.absent]
    refused = doubts.nobody(table)
    rules = home.policy().intake
    limits = replace(limits, clip_frames=rules.clip_frames, coloured=1.0 if rules.colour else limits.coloured)
    with (
        Vault(home) as vault,
        vault.writing(rules_of(rules)) as writer,
        Pool(jobs, str(table.folder), limits, rules.devices, command) as pool,
    ):
        tally.noting = noting = Noting(vault.quarantine, writer, origin or Origin(table.folder))
        sound = [row for row in table if not _set_aside(row, table, classes, refused, tally)]
        done = total - len(sound)
        tally.doubt(table, sound)
        for row, answer in zip(sound, pool.answers(_tasks(sound, table)), strict=True):
            decision = None if isinstance(answer, Taken) else noting.decided(row, _relative(row.image, table), answer)
            said = answer if decision is None else asked_again(row, _task(row, table), decision, pool)
            _keep(row, said, writer, tally, decision)
            done += 1
            if progress is not None:
                progress(done, total)
        noting.finish()
        writer.passed(tally.passed)
        compare_new(vault, writer, tally.same, device)
        twins, uncompared = vault.twins(), len(vault.images()) - vault.compared()
    return tally.report(twins, uncompared)


def _set_aside(
    row: LabelRow,
    table: LabelTable,
    classes: Sequence[str] | None,
    refused: Mapping[str, SetAside],
    tally: _Tally,
) -> bool:
    """Set a row aside for what its labels say."""
    waits = row.label == ""  # no table has a blank class; without a table a picture waits for one
    reason = refused.get(row.patient)
    if not row.patient.strip():
        reason = SetAside.PATIENT
    elif not waits and not _CLASS_TEXT.match(row.label):
        reason = SetAside.LABEL
    elif not waits and classes is not None and row.label not in classes:
        reason = SetAside.UNKNOWN_CLASS
    if reason is not None:
        tally.aside(row, _relative(row.image, table), reason)
    return reason is not None


def _tasks(rows: Sequence[LabelRow], table: LabelTable) -> Iterator[FileTask]:
    return (_task(row, table) for row in rows)


def _task(row: LabelRow, table: LabelTable) -> FileTask:
    masks = tuple(_relative(mask, table) for mask in row.masks)
    return FileTask(image=_relative(row.image, table), masks=masks, question=question_of(row))


def _keep(
    row: LabelRow,
    answer: Taken | Cause,
    writer: VaultWriter,
    tally: _Tally,
    decision: Item | None,
) -> None:
    source = _relative(row.image, tally.table)
    if not isinstance(answer, Taken):
        tally.aside(row, source, answer)
        return
    images = {
        frame: replace(image, label=row.label, device=_device(row.device) or image.device)
        for frame, image in answer.images.items()
    }
    added, stored = _added(row, images, answer.instance, writer, tally)
    for blob in writer.blobs_of(images.values(), answer.instance):
        if added is Added.OTHER_PATIENT:
            tally.same.append((blob, writer.pseudonym(row.written or row.patient)))
        else:
            tally.sources.setdefault(blob, source)
    if added in _REASON_OF:
        tally.conflicts += 1
        tally.aside(row, source, _REASON_OF[added])
        return
    blobs = writer.blobs_of(images.values())
    tally.passed += blobs
    if tally.noting is not None:
        tally.noting.taken(row, source, blobs, decision)
    tally.patients.add(row.patient)
    if any(image.mask is not None and not image.mask.any() for image in images.values()):
        tally.flagged.append(Quarantined(source, Flag.EMPTY_MASK.value, row.line))
    tally.waiting += 0 if row.label else sum(map(writer.waits, images.values()))
    tally.accepted += stored
    tally.duplicates += len(images) - stored


def _added(
    row: LabelRow,
    images: Mapping[int, StoredImage],
    instance: bytes | None,
    writer: VaultWriter,
    tally: _Tally,
) -> tuple[Added, int]:
    """Add a row's pictures; those that wait without a class get this row's, and none loses its class."""
    patient, named = row.written or row.patient, row.frame is not None
    added, stored = writer.add_file(patient, images, instance, named=named)
    if added is not Added.OTHER_CLASS:
        return added, stored
    if not row.label:
        return Added.DUPLICATE, 0
    classified = sum(map(writer.classify, images.values()))
    tally.classified += classified
    return writer.add_file(patient, images, instance, named=named) if classified else (added, stored)


def _device(text: str) -> str:
    """The hospital's own name of a device, if it is plain text."""
    return text.strip() if DEVICE_TEXT.match(text.strip()) else ""


def _relative(path: Path, table: LabelTable) -> str:
    """Path below the source folder, as the labels have it; a path elsewhere stays absolute and is refused later."""
    try:
        return path.relative_to(table.folder).as_posix()
    except ValueError:
        return path.as_posix()


def _unlisted(source: Path, table: LabelTable) -> tuple[str, ...]:
    """Picture files below the source that no row names, sorted."""
    named = {row.image.resolve() for row in table} | {mask.resolve() for row in table for mask in row.masks}
    return tuple(
        path.relative_to(source).as_posix()
        for path in sorted(source.rglob("*"))
        if _may_be_picture(path) and path.resolve() not in named
    )


def _may_be_picture(path: Path) -> bool:
    return path.suffix.lower() in _PICTURE_SUFFIXES and path.is_file()
