"""Labels that name no file: each row names a study, a series, an object or an accession number.

Pathology comes from another system than pixels, which knows no file names::

    accession,label
    A1047,malignant
    A1048,benign

Promises
- A row names one of ``sop``, ``series``, ``study`` and ``accession``; every file that carries it gets the row's label.
  Where two rows name a file, the one that names fewer files counts: object before series before study before accession.
- ``patient`` may be left out as a column; then it is the header's. ``device`` is optional, as in ``labels.csv``.
- ``region`` (x, y, w, h in pixels) says where the picture is on the screen, for files that do not say it.
- ``box`` (one or several) and ``frame`` (the one frame of a clip that is meant, from 1) go with ``sop`` alone, because
  they are of one picture. A mask is of one file, and boxes of several frames need a row each: such rows name the file
  by ``image``, in a table of its own.
- Errors name the line and the column, never an identifier. Identifiers are turned into digests here and not kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.label_cells import boxes_of, columns_of, frame_of, patient_of, records, region_of
from sonoshare_shared.science.pictures.identity import KEYS, key_digest


@dataclass(frozen=True)
class KeyedRow:
    """Who and what the files are that carry one identifier.

    Attributes:
        key: a key of ``KEYS``.
        digest: of the identifier.
        patient: in its one form; empty where the table has no such column.
        label: class name.
        device: scanner, "" where unknown.
        boxes: lesion boxes in pixels of the picture.
        line: of the CSV.
        region: where the ultrasound picture is, in pixels.
        written: the patient as written, where that is not its one form.
        frame: of a clip, from 1; None where it is not told.
    """

    key: str
    digest: str
    patient: str
    label: str
    device: str
    boxes: tuple[Box, ...]
    line: int
    region: Box | None = None
    written: str = ""
    frame: int | None = None


@dataclass(frozen=True)
class KeyedLabels:
    """Rows in the order of the file.

    Attributes:
        rows: at least one.
        patients: whether the table says who the patients are.
    """

    rows: tuple[KeyedRow, ...]
    patients: bool


def is_keyed(path: Path) -> bool:
    """Whether a CSV names its pictures by what their headers say: it has such a column, and none ``image``."""
    columns = columns_of(path)
    return "image" not in columns and any(key in columns for key in KEYS)


def read_keyed(path: Path) -> KeyedLabels:
    """Read such a table.

    Raises:
        InputError: not CSV, a missing column, a blank cell, two keys in a row, a key twice, or no row.
    """
    columns = columns_of(path)
    rows: dict[str, KeyedRow] = {}
    for line, cells in records(path, ("label",)):
        row = _row(f"{path.name} line {line}", line, cells, named="patient" in columns)
        if row.digest in rows:
            raise InputError(
                f"{path.name} line {line}: its {row.key} is that of line {rows[row.digest].line}", remedy="keep one"
            )
        rows[row.digest] = row
    if not rows:
        raise InputError("the table of labels has no row", remedy="add one line for each study or picture")
    return KeyedLabels(tuple(rows.values()), "patient" in columns)


def _row(where: str, line: int, cells: Mapping[str, str], *, named: bool) -> KeyedRow:
    keys = [key for key in KEYS if cells.get(key)]
    if len(keys) != 1:
        raise InputError(
            f"{where}: it names {', '.join(keys) or 'nothing'}", remedy=f"fill in one of {', '.join(KEYS)} in each row"
        )
    blank = [column for column in ("label", *(["patient"] if named else [])) if not cells[column]]
    if blank:
        raise InputError(f"{where}: {', '.join(blank)} is blank", remedy="fill it in or remove the row")
    boxes = boxes_of(cells.get("box", ""), where)
    if boxes and keys != ["sop"]:
        raise InputError(f"{where}: a box is of one picture", remedy="name the picture by its sop, or leave box blank")
    frame = frame_of(cells.get("frame", ""), where)
    if frame is not None and keys != ["sop"]:
        raise InputError(f"{where}: a frame is of one clip", remedy="name the clip by its sop, or leave frame blank")
    if cells.get("mask"):
        raise InputError(f"{where}: a mask is of one file", remedy="name the file by image, in a table of its own")
    patient = patient_of(cells["patient"], where) if named else ""
    return KeyedRow(
        key=keys[0],
        digest=key_digest(keys[0], cells[keys[0]]),
        patient=patient,
        label=cells["label"],
        device=cells.get("device", ""),
        boxes=boxes,
        line=line,
        region=region_of(cells.get("region", ""), where),
        written=cells["patient"] if named and cells["patient"] != patient else "",
        frame=frame,
    )
