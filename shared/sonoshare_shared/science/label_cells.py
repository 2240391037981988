"""Cells of a CSV of labels: lines by column, paths, patients, boxes, regions and frames.

Promises
- A path is resolved against the folder of the CSV and may not leave it (``..``, absolute paths).
- A patient is in one Unicode form (identifiers.py); one with a character that nobody sees is refused.
- Errors name the line of the CSV and the column, never what stands in the cell.
"""

import csv
import errno
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.identifiers import normal, unseen

_FRAME_DIGITS = 9


class AbsentError(InputError):
    """A file of a row is missing."""


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
        raise InputError(f"{path.name} cannot be read: {error.strerror}", remedy="check the path") from error


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
        raise InputError(f"{path.name} cannot be read: {error.strerror}", remedy="check the path") from error


def _check_header(name: str, header: Sequence[str], required: Sequence[str]) -> None:
    missing = [column for column in required if column not in header]
    if missing:
        semicolons = len(header) == 1 and ";" in header[0]
        hint = "separate columns by commas, not semicolons" if semicolons else "add it to the first line"
        raise InputError(f"{name} has no column {', '.join(missing)}", remedy=hint)
    doubled = sorted({column for column in header if column and header.count(column) > 1})
    if doubled:
        raise InputError(f"{name} has column {', '.join(doubled)} twice", remedy="keep one")


def inside(folder: Path, relative: str, where: str) -> Path:
    """Resolve a path of the CSV against its folder; it may not leave it and must be a file."""
    normal = os.path.normpath(relative.replace("\\", "/"))
    leaves = normal == os.pardir or normal.startswith(os.pardir + os.sep)
    if "\0" in relative or Path(normal).is_absolute() or leaves:
        raise InputError(
            f"{where}: a path leaves the folder of the CSV", remedy="give paths relative to the CSV, below its folder"
        )
    path = folder / normal
    if not is_there(path):
        raise AbsentError(f"{where}: file {path.name} does not exist", remedy="correct the path or remove the row")
    return path


def is_there(path: Path) -> bool:
    """Whether a file of this name is there; under a name that no disk takes nothing is.

    Raises:
        InputError: the folder may not be looked into.
    """
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise InputError(
            "a folder of the table cannot be looked into", remedy="check the permissions of the folders below it"
        ) from error


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
