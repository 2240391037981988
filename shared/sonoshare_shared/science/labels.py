"""Who is in which picture: reads ``labels.csv``, a folder that holds one, a release, or a BUS-BRA folder.

Promises
- A :class:`LabelTable` of frozen rows, in the order of the file. No picture is opened: paths are checked to exist,
  sizes and pixels are not. No torch, no numpy: a hospital's intake and a researcher's script read labels the same way.
- ``image`` and ``mask`` are resolved against the folder of the CSV and may not leave it (``..``, absolute paths).
- A picture is listed once; a patient has one hospital; every row has a patient and a label.
- Patients are in one Unicode form (identifiers.py); one with a character that nobody sees is refused.
- Errors name the line of the CSV and the column, never a patient's identifier.

``labels.csv`` (UTF-8, comma separated): header ``image,patient,label`` and optionally ``device``, ``mask``, ``box``,
``frame``, ``hospital``; other columns are ignored. ``box`` is ``x,y,w,h`` in pixels of that picture, quoted because of
its commas; blank means unknown. A picture with several lesions has several masks, separated by ``;``, and several
boxes, likewise. Masks that lie beside a named ``x_mask.png`` as ``x_mask_1.png``, ``x_mask_2.png`` belong to it (BUSI),
unless a row names them. ``frame`` is the one frame of a clip that is meant, from 1; a clip may have a row for each of
several frames.

The other two layouts: label_layouts.py.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.label_cells import (
    AbsentError,
    boxes_of,
    frame_of,
    inside,
    is_there,
    patient_of,
    records,
    region_of,
)
from sonoshare_shared.science.label_layouts import BUSBRA_FILE, RELEASE_FILE, read_busbra, read_release
from sonoshare_shared.science.label_table import Absent, LabelRow, LabelTable

LABELS_FILE = "labels.csv"
REQUIRED = ("image", "patient", "label")
MOST_MASKS = 32
"""Of one picture."""
OPTIONAL = ("device", "mask", "box", "frame", "region", "hospital")


def has_labels(folder: Path) -> bool:
    """Whether a folder says who is in its pictures."""
    return any((folder / name).is_file() for name in (LABELS_FILE, BUSBRA_FILE, RELEASE_FILE))


def read_labels(path: Path, classes: Sequence[str] | None = None, *, leave_out_absent: bool = False) -> LabelTable:
    """Read who is in which picture.

    Args:
        path: a CSV file, or a folder holding ``labels.csv``, a release or BUS-BRA.
        classes: the task's classes; a row with another label is refused. None accepts any.
        leave_out_absent: a row whose picture or mask is missing is left out and named (``LabelTable.absent``) instead
            of refused, in a ``labels.csv`` and in BUS-BRA.

    Returns:
        The table, with at least one row, present or absent.

    Raises:
        InputError: for a missing folder, file or column, an unknown class, a missing picture, a picture listed twice, a
            patient in two hospitals, or a file that is not CSV.
    """
    path = Path(path)
    readers = {LABELS_FILE: _read_table, BUSBRA_FILE: read_busbra, RELEASE_FILE: read_release}
    if path.is_dir():
        found = [name for name in readers if (path / name).is_file()]
        if not found:
            raise InputError(
                f"folder {path.absolute().name} holds none of {', '.join(readers)}",
                remedy=f"add {LABELS_FILE} with the columns {','.join(REQUIRED)}",
            )
        path = path / found[0]
    if not path.is_file():
        raise InputError(f"{path.name} does not exist", remedy="check the path")
    table = readers.get(path.name, _read_table)(path)
    if table.absent and not leave_out_absent:
        first = table.absent[0]
        raise InputError(
            f"{path.name} line {first.line}: file {Path(first.name).name} does not exist",
            remedy="correct the path or remove the row",
        )
    _check(table)
    return table if classes is None else table.require_classes(classes)


def _read_table(path: Path) -> LabelTable:
    rows: list[LabelRow] = []
    absent: list[Absent] = []
    for line, cells in records(path, REQUIRED):
        try:
            rows.append(_row(path, line, cells))
        except AbsentError:
            absent.append(Absent(_first_absent(path.parent, cells), line))
    named = {path for row in rows for path in (row.image, *row.masks)}
    return LabelTable(
        path.parent,
        tuple(replace(row, masks=_with_further(row.masks, named)) for row in rows),
        absent=tuple(absent),
    )


def _row(path: Path, line: int, cells: Mapping[str, str]) -> LabelRow:
    """One row of ``labels.csv``; `AbsentError` last, so that what else is wrong with it is said."""
    folder, where = path.parent, f"{path.name} line {line}"
    blank = [column for column in REQUIRED if not cells[column]]
    if blank:
        raise InputError(f"{where}: {', '.join(blank)} is blank", remedy="fill it in or remove the row")
    if cells.get("mask", "").count(";") >= MOST_MASKS:
        raise InputError(f"{where}: more than {MOST_MASKS} masks", remedy="join them into one mask")
    patient, boxes = patient_of(cells["patient"], where), boxes_of(cells.get("box", ""), where)
    frame = frame_of(cells.get("frame", ""), where)
    return LabelRow(
        image=inside(folder, cells["image"], where),
        patient=patient,
        label=cells["label"],
        device=cells.get("device", ""),
        masks=tuple(inside(folder, name, where) for name in _mask_names(cells)),
        boxes=boxes,
        hospital=cells.get("hospital", "") or None,
        line=line,
        written=cells["patient"] if cells["patient"] != patient else "",
        frame=frame,
        region=region_of(cells.get("region", ""), where),
    )


def _mask_names(cells: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in cells.get("mask", "").split(";") if name.strip()]


def _first_absent(folder: Path, cells: Mapping[str, str]) -> str:
    names = [cells["image"], *_mask_names(cells)]
    return next(name for name in names if not is_there(folder / name.replace("\\", "/")))


def _with_further(masks: tuple[Path, ...], named: AbstractSet[Path]) -> tuple[Path, ...]:
    """Masks, and after each ``x_mask.png`` those that lie beside it as ``x_mask_1.png`` and so on."""
    found: list[Path] = []
    for mask in masks:
        found.append(mask)
        for number in range(1, MOST_MASKS) if mask.stem.endswith("_mask") else ():
            further = mask.with_name(f"{mask.stem}_{number}{mask.suffix}")
            if not is_there(further):
                break
            found.extend([further] if further not in named else [])
    return tuple(found)


def _check(table: LabelTable) -> None:
    """What no single row can show: an empty table, a picture listed twice, a patient in two hospitals."""
    if not table.rows and not table.absent:
        raise InputError("the table of labels has no row", remedy="add one line for each picture")
    seen: dict[Path, set[int | None]] = {}
    hospital_of: dict[str, str | None] = {}
    for number, row in enumerate(table.rows, start=1):
        frames = seen.setdefault(row.image, set())
        if row.frame in frames or (frames and None in {*frames, row.frame}):
            raise InputError(f"row {number}: {row.image.name} is listed twice", remedy="keep one row for each picture")
        frames.add(row.frame)
        if hospital_of.setdefault(row.patient, row.hospital) != row.hospital:
            raise InputError(
                f"row {number}: its patient is in two hospitals",
                remedy="assign all pictures of a patient to one hospital (identifiers must be unique over hospitals)",
            )
