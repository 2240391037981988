"""Layouts of folders that say who is in their pictures by other files than ``labels.csv``.

A release (imagefolder layout): ``metadata.csv`` with ``file_name,label`` and optionally ``scanner,x,y,w,h`` and
``mask_file_name``; every picture is a patient of its own, named by its path.

BUS-BRA (Gomez-Flores et al., Medical Physics 2023): ``bus_data.csv``, ``Images/``, ``Masks/`` and, where present, the
official folds of ``5-fold-cv.csv``. ``Case`` is the patient, ``Pathology`` the label, the device is what stands before
the ``@`` of ``Device``.
"""

from collections.abc import Mapping
from pathlib import Path

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.label_cells import AbsentError, boxes_of, inside, is_there, patient_of, records
from sonoshare_shared.science.label_table import Absent, LabelRow, LabelTable

RELEASE_FILE = "metadata.csv"
BUSBRA_FILE = "bus_data.csv"
BUSBRA_FOLDS = "5-fold-cv.csv"
_FOLD_DIGITS = 9


def read_release(path: Path) -> LabelTable:
    """Rows of a release's ``metadata.csv``; raises InputError where a cell is blank or a file is missing."""
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
                image=inside(folder, cells["file_name"], where),
                patient=cells["file_name"],
                label=cells["label"],
                device=cells.get("scanner", ""),
                masks=(inside(folder, mask, where),) if mask else (),
                boxes=boxes_of(box, where) if box.strip(",") else (),
                line=line,
            )
        )
    return LabelTable(folder, tuple(rows), synthetic=True)


def read_busbra(path: Path) -> LabelTable:
    """Rows of BUS-BRA's ``bus_data.csv``, with its folds; a picture that is missing is told as absent."""
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
                    image=inside(folder, f"Images/{name}.png", where),
                    patient=patient_of(cells["Case"], where),
                    label=cells["Pathology"],
                    device=cells["Device"].split("@")[0].strip(),
                    masks=(mask,) if is_there(mask) else (),
                    boxes=boxes_of(cells["BBOX"], where),
                    fold=folds.get(name),
                    line=line,
                )
            )
        except AbsentError:
            absent.append(Absent(f"Images/{name}.png", line))
    return LabelTable(folder, tuple(rows), absent=tuple(absent))


def _busbra_folds(folder: Path) -> Mapping[str, int]:
    path = folder / BUSBRA_FOLDS
    if not path.is_file():
        return {}
    folds: dict[str, int] = {}
    for line, cells in records(path, ("ID", "kFold")):
        if not cells["kFold"].isdecimal() or len(cells["kFold"]) > _FOLD_DIGITS:
            raise InputError(f"{path.name} line {line}: kFold is not a number", remedy="restore the original file")
        folds[cells["ID"]] = int(cells["kFold"])
    return folds
