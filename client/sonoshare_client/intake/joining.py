"""Parent: from a folder without file names in its labels, or without labels, to rows as ``labels.csv`` has them.

Every file is asked first what it is called (a child reads its header and answers digests, ``identity.py``); rows and
files are then joined by digest. The parent sees no text of a header but, where the table does not say who the patients
are, the patient's identifier: it must become the same pseudonym as the one that a table would give. It is treated as
the table's, and forgotten with it (docs/decisions/0116-labels-join-by-what-the-header-says.md).

Without labels, DICOM objects are taken in with the header's patient and no class: they wait, and take no part in a task
until they have one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sonoshare_client.intake.channel import Question
from sonoshare_client.intake.pool import FileTask, Pool
from sonoshare_client.intake.reasons import Cause, SetAside
from sonoshare_shared.science.keyed_labels import KeyedLabels, KeyedRow
from sonoshare_shared.science.label_table import LabelRow, LabelTable
from sonoshare_shared.science.pictures.identity import KEYS, Identity


@dataclass(frozen=True)
class Joined:
    """A folder's rows.

    Attributes:
        table: one row for each file that has labels, or that waits for them.
        aside: files whose header could not be read, and rows that no file carries: file or key, why, line.
    """

    table: LabelTable
    aside: tuple[tuple[str, Cause, int | None], ...]


def joined(source: Path, files: Sequence[Path], labels: KeyedLabels | None, pool: Pool) -> Joined:
    """Ask every file what it is called, and give it its row.

    Args:
        source: the folder.
        files: the files below it.
        labels: the table; None where there is none, and every DICOM object waits.
        pool: children whose folder is the source.
    """
    wanted = labels is None or not labels.patients
    by_digest = {} if labels is None else {row.digest: row for row in labels.rows}
    used: set[str] = set()
    rows: list[LabelRow] = []
    aside: list[tuple[str, Cause, int | None]] = []
    for file, identity in zip(files, pool.identities(_tasks(source, files, patient=wanted)), strict=True):
        if not isinstance(identity, Identity):
            aside.append((file.relative_to(source).as_posix(), identity, None))
            continue
        if labels is None:
            rows += [LabelRow(file, identity.patient, label="")] if identity.digests else []
        elif (row := _row_of(identity, by_digest)) is not None:
            used.add(row.digest)
            rows.append(_labelled(file, row, identity))
    if labels is not None:
        aside += [(f"({row.key})", SetAside.NO_FILE, row.line) for row in labels.rows if row.digest not in used]
    return Joined(LabelTable(source, tuple(rows)), tuple(aside))


def _tasks(source: Path, files: Iterable[Path], *, patient: bool) -> Iterator[FileTask]:
    for file in files:
        question = Question(file.suffix.lower(), None)
        yield FileTask(file.relative_to(source).as_posix(), (), question, identity="patient" if patient else "keys")


def _row_of(identity: Identity, by_digest: Mapping[str, KeyedRow]) -> KeyedRow | None:
    found = (by_digest.get(identity.digests.get(key, "")) for key in KEYS)
    return next((row for row in found if row is not None), None)


def _labelled(file: Path, row: KeyedRow, identity: Identity) -> LabelRow:
    return LabelRow(
        image=file,
        patient=row.patient or identity.patient,
        label=row.label,
        device=row.device,
        boxes=row.boxes,
        region=row.region,
        line=row.line,
        written=row.written,
        frame=row.frame,
    )
