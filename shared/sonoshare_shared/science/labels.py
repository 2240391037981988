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

A release (imagefolder layout): ``metadata.csv`` with ``file_name,label`` and optionally ``scanner,x,y,w,h`` and
``mask_file_name``; every picture is a patient of its own, named by its path.

BUS-BRA (Gomez-Flores et al., Medical Physics 2023): ``bus_data.csv``, ``Images/``, ``Masks/`` and, where present, the
official folds of ``5-fold-cv.csv``. ``Case`` is the patient, ``Pathology`` the label, the device is what stands before
the ``@`` of ``Device``.
"""

import csv
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box, enclosing
from sonoshare_shared.science.identifiers import normal, unseen

LABELS_FILE = "labels.csv"
RELEASE_FILE = "metadata.csv"
BUSBRA_FILE = "bus_data.csv"
BUSBRA_FOLDS = "5-fold-cv.csv"
REQUIRED = ("image", "patient", "label")
MOST_MASKS = 32
"""Of one picture."""
_FRAME_DIGITS = 9
OPTIONAL = ("device", "mask", "box", "frame", "region", "hospital")


@dataclass(frozen=True)
class LabelRow:
    """One picture.

    Attributes:
        image: path of the picture (PNG, JPEG or DICOM).
        patient: the source's own identifier of the patient; never leaves the hospital.
        label: class name, e.g. ``benign``.
        device: scanner, "" where unknown.
        masks: paths of the lesion masks, one for each lesion or one of all.
        boxes: lesion boxes x, y, width, height in pixels of the picture.
        hospital: hospital the row is assigned to, or None.
        fold: official fold of the source (BUS-BRA: 1 to 5), or None.
        line: of the CSV that it stands in, or None.
        written: the patient as the CSV has it, where that is not its one form; else empty.
        frame: of a clip, from 1; None where it is not told.
        region: where the ultrasound picture is, x, y, w, h in pixels; counts where the file does not say it.
    """

    image: Path
    patient: str
    label: str
    device: str = ""
    masks: tuple[Path, ...] = ()
    boxes: tuple[Box, ...] = ()
    hospital: str | None = None
    fold: int | None = None
    line: int | None = None
    written: str = ""
    frame: int | None = None
    region: Box | None = None

    @property
    def box(self) -> Box | None:
        """Around all of its boxes; None where there is none."""
        return enclosing(self.boxes)


@dataclass(frozen=True)
class Absent:
    """A row that was left out because a file that it names is missing.

    Attributes:
        name: of the file, as the row has it.
        line: of the CSV.
    """

    name: str
    line: int


class _AbsentError(InputError):
    """A file of a row is missing."""


@dataclass(frozen=True)
class LabelTable:
    """Rows in the order of the file.

    Attributes:
        folder: folder that the rows' paths lie in.
        rows: one row a picture, at least one.
        synthetic: the pictures are a release's.
        absent: rows that were left out because a file of theirs is missing.
    """

    folder: Path
    rows: tuple[LabelRow, ...]
    synthetic: bool = False
    absent: tuple[Absent, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[LabelRow]:
        return iter(self.rows)

    @property
    def patients(self) -> tuple[str, ...]:
        """Distinct patients in order of appearance."""
        return tuple(dict.fromkeys(row.patient for row in self.rows))

    @property
    def labels(self) -> tuple[str, ...]:
        """Distinct labels, sorted."""
        return tuple(sorted({row.label for row in self.rows}))

    @property
    def devices(self) -> tuple[str, ...]:
        """Distinct devices, sorted; "" where unknown."""
        return tuple(sorted({row.device for row in self.rows}))

    @property
    def hospitals(self) -> tuple[str, ...]:
        """Distinct hospitals, sorted; empty where the file assigns none."""
        return tuple(sorted({row.hospital for row in self.rows if row.hospital is not None}))

    def where(self, keep: Callable[[LabelRow], bool]) -> "LabelTable":
        """The rows for which ``keep`` is true; may be empty."""
        return replace(self, rows=tuple(row for row in self.rows if keep(row)))

    def require_classes(self, classes: Sequence[str]) -> "LabelTable":
        """Check that every label is one of the task's classes.

        Raises:
            InputError: naming the labels that are not.
        """
        unknown = sorted({row.label for row in self.rows} - set(classes))
        if unknown:
            raise InputError(
                f"unknown class {', '.join(unknown[:5])} in column label",
                remedy=f"the classes are {', '.join(classes)}: correct the label or remove the row",
            )
        return self


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
    readers = {LABELS_FILE: _read_table, BUSBRA_FILE: _read_busbra, RELEASE_FILE: _read_release}
    if path.is_dir():
        found = [name for name in readers if (path / name).is_file()]
        if not found:
            raise InputError(
                f"folder {path.name} holds none of {', '.join(readers)}",
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


def records(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column) of a CSV file; names and cells are stripped, blank lines left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path.name, header, required)
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise InputError(
                        f"{path.name} line {reader.line_num}: {len(cells)} cells under {len(header)} columns",
                        remedy="quote cells that contain commas, such as boxes",
                    )
                yield reader.line_num, dict(zip(header, map(str.strip, cells), strict=True))
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text", remedy="save it as UTF-8 CSV") from error
    except csv.Error as error:
        raise InputError(f"{path.name} is not valid CSV: {error}", remedy="save it as UTF-8 CSV") from error
    except OSError as error:
        raise InputError(f"{path.name} cannot be read", remedy="check its permissions") from error


def columns_of(path: Path) -> tuple[str, ...]:
    """Names of the columns of a CSV file.

    Raises:
        InputError: it cannot be read, or is not UTF-8 CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return tuple(name.strip() for name in next(csv.reader(file, strict=True), []))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} is not UTF-8 CSV", remedy="save it as UTF-8 CSV") from error
    except OSError as error:
        raise InputError(f"{path.name} cannot be read", remedy="check the path and its permissions") from error


def _check_header(name: str, header: Sequence[str], required: Sequence[str]) -> None:
    missing = [column for column in required if column not in header]
    if missing:
        semicolons = len(header) == 1 and ";" in header[0]
        hint = "separate columns by commas, not semicolons" if semicolons else "add it to the first line"
        raise InputError(f"{name} has no column {', '.join(missing)}", remedy=hint)
    doubled = sorted({column for column in header if column and header.count(column) > 1})
    if doubled:
        raise InputError(f"{name} has column {', '.join(doubled)} twice", remedy="keep one")


def _inside(folder: Path, relative: str, where: str) -> Path:
    """Resolve a path of the CSV against its folder; it may not leave it and must be a file."""
    normal = os.path.normpath(relative.replace("\\", "/"))
    leaves = normal == os.pardir or normal.startswith(os.pardir + os.sep)
    if "\0" in relative or Path(normal).is_absolute() or leaves:
        raise InputError(
            f"{where}: a path leaves the folder of the CSV", remedy="give paths relative to the CSV, below its folder"
        )
    path = folder / normal
    if not path.is_file():
        raise _AbsentError(f"{where}: file {path.name} does not exist", remedy="correct the path or remove the row")
    return path


def patient_of(text: str, where: str) -> str:
    """The identifier in its one form; one with a character that nobody sees is refused."""
    if sign := unseen(text):
        raise InputError(f"{where}: column patient holds {sign}, which nobody sees", remedy="remove it from the cell")
    return normal(text)


def boxes_of(text: str, where: str) -> tuple[Box, ...]:
    """Parse ``x,y,w,h``, one or several (brackets, semicolons and blanks are forgiven); none where blank."""
    parts = [part for part in re.split(r"[,;\s\[\]()]+", text) if part]
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = (math.nan,)
    if len(numbers) % 4 or not all(abs(number) < 1e6 for number in numbers):
        raise InputError(
            f"{where}: column box is not x,y,w,h", remedy="give four numbers in pixels for each lesion, or leave blank"
        )
    boxes = tuple(Box.of(numbers[place : place + 4]) for place in range(0, len(numbers), 4))
    if any(min(box.w, box.h) <= 0.0 for box in boxes):
        raise InputError(f"{where}: the box is empty", remedy="give its width and height, or leave it blank")
    return boxes


def region_of(text: str, where: str) -> Box | None:
    """Parse one ``x,y,w,h``; None where blank."""
    try:
        regions = boxes_of(text, where)
    except InputError:
        regions = ()
    if len(regions) > 1 or (text.strip() and not regions):
        raise InputError(f"{where}: column region is not x,y,w,h", remedy="give four numbers in pixels, or leave blank")
    return regions[0] if regions else None


def frame_of(text: str, where: str) -> int | None:
    """The frame of a clip in a cell, from 1; None where it is blank.

    Raises:
        InputError: it is no number of a frame.
    """
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > _FRAME_DIGITS or int(text) < 1:
        raise InputError(f"{where}: column frame is no number of a frame", remedy="the first frame of a clip is 1")
    return int(text)


def _read_table(path: Path) -> LabelTable:
    rows: list[LabelRow] = []
    absent: list[Absent] = []
    for line, cells in records(path, REQUIRED):
        try:
            rows.append(_row(path, line, cells))
        except _AbsentError:
            absent.append(Absent(_first_absent(path.parent, cells), line))
    named = {path for row in rows for path in (row.image, *row.masks)}
    return LabelTable(
        path.parent,
        tuple(replace(row, masks=_with_further(row.masks, named)) for row in rows),
        absent=tuple(absent),
    )


def _row(path: Path, line: int, cells: Mapping[str, str]) -> LabelRow:
    """One row of ``labels.csv``; `_AbsentError` last, so that what else is wrong with it is said."""
    folder, where = path.parent, f"{path.name} line {line}"
    blank = [column for column in REQUIRED if not cells[column]]
    if blank:
        raise InputError(f"{where}: {', '.join(blank)} is blank", remedy="fill it in or remove the row")
    if cells.get("mask", "").count(";") >= MOST_MASKS:
        raise InputError(f"{where}: more than {MOST_MASKS} masks", remedy="join them into one mask")
    patient, boxes = patient_of(cells["patient"], where), boxes_of(cells.get("box", ""), where)
    frame = frame_of(cells.get("frame", ""), where)
    return LabelRow(
        image=_inside(folder, cells["image"], where),
        patient=patient,
        label=cells["label"],
        device=cells.get("device", ""),
        masks=tuple(_inside(folder, name, where) for name in _mask_names(cells)),
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
    return next(name for name in names if not (folder / name.replace("\\", "/")).is_file())


def _with_further(masks: tuple[Path, ...], named: AbstractSet[Path]) -> tuple[Path, ...]:
    """Masks, and after each ``x_mask.png`` those that lie beside it as ``x_mask_1.png`` and so on."""
    found: list[Path] = []
    for mask in masks:
        found.append(mask)
        for number in range(1, MOST_MASKS) if mask.stem.endswith("_mask") else ():
            further = mask.with_name(f"{mask.stem}_{number}{mask.suffix}")
            if not further.is_file():
                break
            found.extend([further] if further not in named else [])
    return tuple(found)


def _busbra_folds(folder: Path) -> Mapping[str, int]:
    path = folder / BUSBRA_FOLDS
    if not path.is_file():
        return {}
    folds: dict[str, int] = {}
    for line, cells in records(path, ("ID", "kFold")):
        if not cells["kFold"].isdecimal():
            raise InputError(f"{path.name} line {line}: kFold is not a number", remedy="restore the original file")
        folds[cells["ID"]] = int(cells["kFold"])
    return folds


def _read_release(path: Path) -> LabelTable:
    folder = path.parent
    rows: list[LabelRow] = []
    for line, cells in records(path, ("file_name", "label")):
        where = f"{path.name} line {line}"
        if not cells["file_name"] or not cells["label"]:
            raise InputError(f"{where}: file_name or label is blank", remedy="fetch the release again")
        mask = cells.get("mask_file_name", "")
        box = ",".join(cells.get(column, "") for column in "xywh")
        rows.append(
            LabelRow(
                image=_inside(folder, cells["file_name"], where),
                patient=cells["file_name"],
                label=cells["label"],
                device=cells.get("scanner", ""),
                masks=(_inside(folder, mask, where),) if mask else (),
                boxes=boxes_of(box, where) if box.strip(",") else (),
                line=line,
            )
        )
    return LabelTable(folder, tuple(rows), synthetic=True)


def _read_busbra(path: Path) -> LabelTable:
    folder = path.parent
    folds = _busbra_folds(folder)
    rows: list[LabelRow] = []
    absent: list[Absent] = []
    for line, cells in records(path, ("ID", "Case", "Pathology", "Device", "BBOX")):
        where = f"{BUSBRA_FILE} line {line}"
        name = cells["ID"]
        mask = folder / "Masks" / f"{name.replace('bus_', 'mask_', 1)}.png"
        try:
            rows.append(
                LabelRow(
                    image=_inside(folder, f"Images/{name}.png", where),
                    patient=patient_of(cells["Case"], where),
                    label=cells["Pathology"],
                    device=cells["Device"].split("@")[0].strip(),
                    masks=(mask,) if mask.is_file() else (),
                    boxes=boxes_of(cells["BBOX"], where),
                    fold=folds.get(name),
                    line=line,
                )
            )
        except _AbsentError:
            absent.append(Absent(f"Images/{name}.png", line))
    return LabelTable(folder, tuple(rows), absent=tuple(absent))


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
